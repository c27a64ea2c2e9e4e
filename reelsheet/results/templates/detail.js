  // ---- one row in detail

  function copier(text, what) {
    const button = push("copy", icon("copy"), async () => {
      await copy(text);
      button.classList.add("done");
      button.replaceChildren(icon("succeeded"));
      button.setAttribute("aria-label", "Copied");
      setTimeout(() => { button.classList.remove("done"); button.replaceChildren(icon("copy")); button.setAttribute("aria-label", "Copy " + what); }, 1600);
    });
    button.title = "Copy " + what;
    button.setAttribute("aria-label", "Copy " + what);
    return button;
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page from plain http has no clipboard
      const area = el("textarea");
      area.value = text;
      side.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  function link(address, name, text, symbol) {
    const node = el("a", name, symbol ? icon(symbol) : "", text);
    node.href = address;
    node.target = "_blank";
    node.rel = "noopener noreferrer";
    return node;
  }

  function fact(list, label, value, extra, name) {
    if (value === "" || value === undefined || value === null) return;
    list.append(el("div", "", say("dt", "", label), el("dd", "", value instanceof Node ? value : say("span", name || "", String(value)), extra || "")));
  }

  function sizeOf(bytes) {
    return bytes < 1e6 ? Math.max(1, Math.round(bytes / 1e3)) + "\u00a0kB" : (bytes / 1e6).toFixed(1) + "\u00a0MB";
  }

  // Why a clip does not play, and how to play it again.
  function explanation(row) {
    const text = say("p", "", "The clip did not load. ");
    if (expired()) text.append("The links in this page have expired; ask for a new page of run ", el("code", "", run), ".");
    else text.append("Check that this page is still in its folder, or that you are online.");
    if (row.u) text.append(" It is still at ", say("code", "", row.u), ".");
    return text;
  }

  function clear() {
    const video = stage.querySelector("video");
    if (video) still(video);
    stage.replaceChildren();
  }

  let lit = -1; // the row in detail; where the focus was before is given back by the browser, and moved on from there

  // `goal`: "note", or the id of a cell that is to be changed.
  function show(index, goal = "") {
    const row = rows[index];
    if (playing >= 0) rest(playing);
    if (running.size) playAll(false);
    lit = index;
    clear();
    stage.classList.toggle("tall", Boolean(row.ht && row.wd && row.ht > row.wd));
    if (row.v) {
      const video = movie(row, () => {
        if (!video.isConnected || !video.hasAttribute("src")) return;
        still(video);
        stage.append(el("div", "why", explanation(row)));
      });
      video.controls = true;
      if (row.p) video.poster = row.p;
      video.setAttribute("aria-label", row.n);
      stage.append(video);
      if (!calm.matches) video.play().catch(() => {});
    } else {
      if (row.p) stage.append(picture(row, ""));
      stage.append(el("div", "why", pill(row.s)));
    }

    const heading = say("h2", "", row.n);
    heading.id = "d-name";
    const parts = [pill(row.s), heading];
    const prompt = cell(row, "prompt");
    parts.push(prompt ? say("p", "full", prompt) : "");
    if (row.e) parts.push(say("p", "note s-" + row.s, row.e));
    if (!row.v) parts.push(changes(row));
    for (const warning of row.w || []) parts.push(say("p", "note s-skipped", warning));

    const acts = el("div", "acts");
    if (row.v) acts.append(link(row.v, "act main", "Open clip", "out"));
    (row.m || []).forEach((address, n) => safe(address) && acts.append(link(address, "act", "Clip " + (n + 2), "out")));
    const image = cell(row, "image").trim();
    if (/^https?:/i.test(image) && safe(image)) acts.append(link(image, "act", "Picture", "picture"));
    if (acts.firstChild) parts.push(acts);
    if (review.has(index)) parts.push(noting(index));
    const takes = (pictures.get(row.g) || []).filter((take) => take !== index);
    if (takes.length) parts.push(el("h3", "", "Other takes of this picture"), el("div", "acts", ...takes.map(otherTake)));

    const facts = el("dl", "facts");
    fact(facts, "Cost in this run", money(row.cost));
    if (row.total !== row.cost) fact(facts, "Paid in all runs", money(row.total));
    if (row.risk) fact(facts, "At risk", money(row.risk));
    if (row.r) fact(facts, "Reused", "yes, paid for earlier");
    if (row.a > 1) fact(facts, "Attempt", row.a);
    fact(facts, "Prediction", row.id, row.id && copier(row.id, "prediction id"), "id");
    if (row.wd && row.ht) fact(facts, "Size", [row.wd + " × " + row.ht, row.du ? row.du.toFixed(2) + " s" : "", row.by ? sizeOf(row.by) : ""].filter(Boolean).join(" · "));
    if (row.sec) fact(facts, "Took", row.sec + " s to make");
    fact(facts, "Finished", row.t1);
    fact(facts, "Stored at", row.u, row.u && copier(row.u, "address"), "id");
    if (row.k) fact(facts, "Code", row.k, null, "id");
    parts.push(el("h3", "", "The clip"), facts);

    const cells = el("dl", "facts");
    columns.forEach((column, n) => {
      const isWrong = (row.x || []).includes(n);
      if (!isWrong && ((n === roles.prompt && !row.q) || !row.c[n].trim())) return;
      fact(cells, column || "(no name)", row.c[n] || "(empty)");
      cells.lastChild.id = "cell-" + n;
      cells.lastChild.tabIndex = -1;
      cells.lastChild.classList.toggle("wrong", isWrong);
    });
    if (cells.firstChild) parts.push(el("h3", "", "From the sheet, row " + row.l), cells);

    side.replaceChildren(...parts.filter(Boolean));
    side.scrollTop = 0;
    const place = places.get(index);
    byId("d-where").textContent = number(place + 1) + " of " + number(shown.length);
    byId("d-prev").disabled = place === 0;
    byId("d-next").disabled = place === shown.length - 1;
    byId("d-judge").replaceChildren(...(review.has(index) ? [verdict(index, "ok"), verdict(index, "redo")] : []));
    if (!detail.open) {
      detail.showModal();
      side.focus();
    }
    if (goal) reach(byId(goal));
  }

  function reach(node) {
    if (!node) return;
    node.scrollIntoView({ block: "center" });
    node.focus({ preventScroll: true });
  }

  function noting(index) {
    const area = el("textarea"), label = el("label", "noting", el("span", "", "Note"), area);
    area.id = "note";
    area.rows = 2;
    area.maxLength = 2000;
    area.dir = "auto";
    area.placeholder = "What should be different?";
    area.value = review.note(index);
    area.addEventListener("input", () => { review.set(index, { note: area.value.trim() }); marked(index); });
    return label;
  }

  // In words: where in the sheet to change what.
  function changes(row) {
    const text = el("p", "changes", "In your sheet: row " + row.l);
    (row.x || []).forEach((n, place) => {
      const cell = push("fix", say("span", "", "“" + (columns[n] || "(no name)") + "”"), () => reach(byId("cell-" + n)));
      text.append(place ? " or " : ", column ", cell);
    });
    text.append(". ", DONE_WITH[row.s] || "");
    return text;
  }

  const DONE_WITH = {
    failed: "Change it there, and run the sheet or these results again.",
    invalid: "Change it there, and run the sheet again; nothing was paid for this row.",
    skipped: "It was not tried in this run; run the sheet again to have it made.",
    undelivered: "Nothing to change: it is paid for, and the next run fetches it at no cost.",
    unknown: "Nothing to change: whoever runs reelsheet looks it up in the provider's dashboard first.",
  };

  function otherTake(index) {
    const button = push("act", [review.word(index) ? icon(review.word(index)) : "", say("span", "", rows[index].n + (rows[index].v ? "" : " · " + rows[index].s))], () => show(index));
    button.title = cell(rows[index], "prompt");
    return button;
  }

  function step(by) {
    const next = shown[(places.get(lit) ?? -1) + by];
    if (next !== undefined) show(next);
  }

  byId("d-prev").addEventListener("click", () => step(-1));
  byId("d-next").addEventListener("click", () => step(1));
  byId("d-close").addEventListener("click", () => detail.close());
  detail.addEventListener("click", (event) => event.target === detail && detail.close());
  detail.addEventListener("close", () => {
    clear();
    byId("d-judge").replaceChildren();
    focusCard(lit);
    if (isPlayingAll()) playAll(true);
  });
