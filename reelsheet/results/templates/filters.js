  // ---- filters and search

  let status = "", code = "", judged = "", wanted = [], current = -1, shown = order, places = new Map();
  const plainly = (text) => text.normalize("NFKD").replace(/\p{M}+/gu, "").toLowerCase();
  let haystacks = null;

  function matches(index) {
    const row = rows[index];
    if (status && row.s !== status) return false;
    if (code && row.k !== code) return false;
    if (judged && !KINDS[judged](index)) return false;
    return wanted.every((word) => haystacks[index].includes(word));
  }

  function refresh() {
    wanted = plainly(search.value).split(/\s+/).filter(Boolean);
    if (wanted.length && !haystacks) {
      haystacks = rows.map((row) => plainly([row.n, ...row.c, row.q, row.s, row.e, row.k, row.id, row.u, ...(row.w || [])].join("\n")));
    }
    shown = order.filter((index) => {
      const hit = matches(index);
      if (cards[index].hidden === hit) cards[index].hidden = !hit;
      return hit;
    });
    arrange();
    places = new Map(shown.map((index, place) => [index, place]));
    const all = shown.length === rows.length;
    const note = code ? " with “" + code.replaceAll("_", " ") + "”" : "";
    byId("count").textContent = all ? number(rows.length) + (rows.length === 1 ? " row" : " rows") : number(shown.length) + " of " + number(rows.length) + " rows" + note;
    byId("empty").hidden = shown.length > 0;
    byId("empty-text").textContent = rows.length ? "No row matches." : "This run has no rows.";
    byId("clear").hidden = !rows.length;
    for (const chip of byId("chips").children) chip.setAttribute("aria-pressed", String(chip.status === status && !judged));
    for (const chip of byId("judged").children) chip.setAttribute("aria-pressed", String(chip.kind === judged));
  }

  function only(nextStatus, nextCode = "", nextJudged = "") {
    [status, code, judged] = [nextStatus, nextCode, nextJudged];
    choose();
  }

  function choose() { // the first of the rows comes into view, wherever the page was
    refresh();
    if (byId("main").getBoundingClientRect().top < 0) byId("main").scrollIntoView();
  }

  // ---- counts of the review, by which rows can be chosen, and the review file

  const KINDS = {
    left: (index) => review.has(index) && !review.word(index),
    ok: (index) => review.word(index) === "ok",
    redo: (index) => review.word(index) === "redo",
    made: (index) => rows[index].s === "succeeded" && !rows[index].r,
  };
  const KIND_NAMES = { left: "To review", ok: "OK", redo: "Redo", made: "New in this run" };
  const made = rows.filter((row) => row.s === "succeeded" && !row.r).length;
  for (const kind of Object.keys(KIND_NAMES)) {
    if (kind === "made" && (!made || !rows.some((row) => row.r))) continue;
    const chip = push("chip m-" + kind, [kind in VERDICTS ? icon(kind) : "", KIND_NAMES[kind], el("b", "", kind === "made" ? number(made) : "")], () => only("", "", judged === kind ? "" : kind));
    chip.kind = kind;
    byId("judged").append(chip);
  }

  function tally() {
    const counts = review.counts();
    for (const chip of byId("judged").children) {
      if (chip.kind !== "made") chip.querySelector("b").textContent = number(counts[chip.kind]);
    }
    byId("save").disabled = !counts.marked;
    byId("unkept").hidden = review.isKept;
  }

  byId("save").addEventListener("click", () => {
    const file = el("a"), address = URL.createObjectURL(new Blob([review.csv()], { type: "text/csv" }));
    file.href = address;
    file.download = "review-" + run + (part > 1 ? "-" + part : "") + ".csv";
    byId("review").append(file);
    file.click();
    file.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    byId("said").textContent = "The review file is in your downloads.";
  });
  addEventListener("storage", (event) => { // another window of this page
    if (event.key !== review.store) return;
    review.load();
    rows.forEach((_, index) => paint(index));
    tally();
  });

  for (const name of ["", ...STATUSES]) {
    const count = name ? rows.filter((row) => row.s === name).length : rows.length;
    if (name && !count) continue;
    const chip = push(name ? "chip t-" + name : "chip", [name ? icon(name) : "", name ? name[0].toUpperCase() + name.slice(1) : "All", el("b", "", number(count))], () => only(status === name ? "" : name));
    chip.status = name;
    if (name) chip.title = meanings[name];
    byId("chips").append(chip);
  }
  for (const button of document.querySelectorAll(".trouble button")) {
    button.addEventListener("click", () => {
      search.value = "";
      only(button.dataset.status, button.dataset.code);
      byId("main").scrollIntoView();
    });
  }
  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(choose, 90); });
  byId("clear").addEventListener("click", () => { search.value = ""; only(""); search.focus(); });
