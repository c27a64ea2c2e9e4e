  // ---- keyboard

  function focusCard(index) {
    if (index < 0 || cards[index].hidden) return;
    current = index;
    fill(index);
    cards[index].querySelector(".open").focus({ preventScroll: true });
    cards[index].scrollIntoView({ block: "nearest" });
  }

  function move(by) {
    if (!shown.length) return;
    const place = places.get(current);
    const next = place === undefined ? 0 : place + by;
    if (next >= 0 && next < shown.length) focusCard(shown[next]);
  }

  const across = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    if (target.matches("textarea")) return;
    if (detail.open) {
      const video = stage.querySelector("video");
      if (key === "j" || (key === "ArrowRight" && target !== video)) step(1);
      else if (key === "k" || (key === "ArrowLeft" && target !== video)) step(-1);
      else if (key === "o") mark(lit, "ok");
      else if (key === "r") mark(lit, "redo");
      else if (key === "n") reach(byId("note"));
      else if (key === " " && video && target !== video && !target.closest("button, a")) video.paused ? video.play().catch(() => {}) : video.pause();
      else return;
      event.preventDefault();
      return;
    }
    if (target === search) {
      if (key === "Escape") { search.value = ""; refresh(); search.blur(); }
      else if ((key === "Enter" || key === "ArrowDown") && shown.length) { clearTimeout(typing); refresh(); focusCard(shown[0]); }
      else return;
      event.preventDefault();
      return;
    }
    const onCard = target.classList.contains("open");
    if (key === "/") { search.focus(); search.select(); }
    else if (key === "j") move(1);
    else if (key === "k") move(-1);
    else if (key === "o" && current >= 0) mark(current, "ok");
    else if (key === "r" && current >= 0) mark(current, "redo");
    else if (key === "n" && current >= 0 && review.has(current)) show(current, "note");
    else if (onCard && key === "ArrowRight") move(1);
    else if (onCard && key === "ArrowLeft") move(-1);
    else if (onCard && key === "ArrowDown") move(across());
    else if (onCard && key === "ArrowUp") move(-across());
    else if (onCard && key === " ") playing === current ? rest(current) : preview(current);
    else if (onCard && key === "Escape") { rest(current); target.blur(); }
    else if (key === "Escape" && (status || code || judged || search.value)) { search.value = ""; only(""); }
    else return;
    event.preventDefault();
  });
  // a button clicks on keyup of the space bar; here it plays instead
  document.addEventListener("keyup", (event) => event.key === " " && event.target.classList?.contains("open") && event.preventDefault());

  // ---- paper, and links that have expired

  addEventListener("beforeprint", () => { near.disconnect(); if (byId("trouble")) byId("trouble").open = true; shown.slice(0, 2000).forEach(fill); });
  addEventListener("afterprint", () => cards.forEach((card) => near.observe(card)));
  if (expired()) {
    byId("ended").append("The links in this page have expired, so clips no longer play here. ");
    if (home) byId("ended").append("They are still at ", say("code", "", home), "; ");
    byId("ended").append("ask whoever runs reelsheet for a new page of run ", say("code", "", run), ".");
    byId("ended").hidden = false;
  }

  byId("tools").hidden = !rows.length;
  byId("review").hidden = !rows.some((_, index) => review.has(index));
  grid.append(...blocks);
  refresh();
  tally();
  addEventListener("resize", arrange);
  cards.forEach((card) => near.observe(card));
