(() => {
  "use strict";
  // Everything shown comes from the JSON above by textContent; no string ever becomes markup.
  const { rows, columns, roles, home, run, expires, meanings } = JSON.parse(document.getElementById("data").textContent);
  const STATUSES = Object.keys(meanings);
  const byId = (id) => document.getElementById(id);
  const grid = byId("grid"), search = byId("search"), detail = byId("detail"), stage = byId("d-stage"), side = byId("d-side");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const hovers = matchMedia("(hover: hover)");
  const money = (cents) => "$" + (cents / 100).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const number = (value) => value.toLocaleString("en-US");

  function el(tag, name, ...children) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }

  // Text of a cell or of the provider: its own direction, kept from turning its surroundings around.
  function say(tag, name, text) {
    const node = el(tag, name);
    node.dir = "auto";
    node.textContent = text;
    return node;
  }

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", "#i-" + name);
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    svg.append(use);
    return svg;
  }

  const pill = (status) => el("span", "pill s-" + status, icon(status), status);
  // A page that lies beside its clips plays those; one that was mailed, or is read from a bucket, the linked ones.
  for (const row of rows) if (row.f) [row.v, row.alt] = location.protocol === "file:" || !row.v ? [row.f, row.v] : [row.v, row.f];
  const cell = (row, role) => (role in roles ? row.c[roles[role]] : "");
  const expired = () => expires && Date.now() > expires * 1000;

  function safe(address) {
    try {
      const url = new URL(address, document.baseURI);
      const local = url.protocol === "file:" && location.protocol === "file:";
      return url.protocol === "https:" || url.protocol === "http:" || local ? address : "";
    } catch {
      return "";
    }
  }

  function picture(row, name) {
    const image = el("img", name);
    image.alt = "";
    image.loading = "lazy";
    image.decoding = "async";
    image.referrerPolicy = "no-referrer";
    image.addEventListener("error", () => image.remove());
    image.src = row.p;
    return image;
  }

  function movie(row, onError) {
    const video = el("video");
    video.muted = true;
    video.loop = true;
    video.playsInline = true;
    video.preload = "none";
    video.addEventListener("error", () => {
      if (!row.alt) { onError(); return; }
      [row.v, row.alt] = [row.alt, ""]; // not beside the page, or its link has expired: the other place
      const went = video.dataset.on;
      video.src = row.v;
      if (went) video.play().catch(() => {});
    });
    video.addEventListener("play", () => { video.dataset.on = "1"; });
    video.src = row.v;
    return video;
  }

  function still(video) {
    video.pause();
    video.removeAttribute("src");
    video.load(); // lets go of the connection and the decoder
    video.remove();
  }

  // ---- cards: all have one height, so an empty shell keeps its place and is filled only near the window

  const cards = rows.map((row, index) => {
    const card = el("li", "card");
    card.index = index;
    return card;
  });

  function fill(index) {
    const card = cards[index], row = rows[index];
    if (card.firstChild) return;
    const media = el("div", row.v ? "media" : "media bad");
    media.append(el("span", "blank", icon("picture")));
    if (row.p) {
      const front = picture(row, "front");
      // around an upright picture stands a blur of itself
      front.addEventListener("load", () => Math.abs(front.naturalWidth / front.naturalHeight - 16 / 9) > .08 && front.before(picture(row, "back")));
      media.append(front);
    }
    if (row.v) {
      media.append(el("span", "cue", icon("play")));
      if (row.du) media.append(el("span", "span", row.du.toFixed(row.du < 9.95 ? 1 : 0) + " s"));
    } else {
      media.append(el("div", "why", say("p", "", row.e || "No clip.")));
    }
    const open = el("button", "open");
    open.type = "button";
    open.setAttribute("aria-label", (row.v ? "Play " : "Show ") + row.n + ", " + row.s);
    open.addEventListener("click", () => show(index));
    card.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(index));
    card.addEventListener("pointerleave", () => rest(index));
    open.addEventListener("focus", () => { current = index; if (open.matches(":focus-visible") && !calm.matches) preview(index); });
    open.addEventListener("blur", () => rest(index));
    const name = say("h3", "", row.n);
    name.title = row.n;
    const facts = [];
    if (row.r) facts.push("reused");
    if (row.wd && row.ht) facts.push(row.wd + " × " + row.ht);
    if (row.m) facts.push("+" + row.m.length + (row.m.length === 1 ? " clip" : " clips"));
    const status = pill(row.s);
    status.title = row.s + ": " + meanings[row.s];
    card.append(el("div", "fill", media,
      el("div", "text",
        el("div", "top", name, el("span", "cost", row.risk ? money(row.risk) + " at risk" : money(row.cost))),
        say("p", "prompt", cell(row, "prompt") || cell(row, "image")),
        el("div", "meta", status, facts.length ? el("span", "", facts.join(" · ")) : "",
          row.w ? el("span", "warn", icon("note"), row.w.length === 1 ? "warning" : row.w.length + " warnings") : ""))),
      open);
  }

  function drop(index) {
    const card = cards[index];
    if (card.contains(document.activeElement)) return;
    rest(index);
    card.replaceChildren();
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? fill : drop)(entry.target.index);
  }, { rootMargin: "900px 0px" });

  // ---- a clip plays in its card while it is pointed at or focused; one at a time

  let playing = -1, pending = 0, inline = null;

  function hover(index) {
    if (calm.matches || !hovers.matches) return;
    clearTimeout(pending);
    pending = setTimeout(() => preview(index), 140);
  }

  function preview(index) {
    if (playing === index || !rows[index].v || detail.open) return;
    if (playing >= 0) rest(playing);
    const media = cards[index].querySelector(".media");
    if (!media) return;
    playing = index;
    inline = movie(rows[index], () => rest(index));
    inline.addEventListener("playing", (event) => event.target.classList.add("on"));
    media.querySelector(".cue").before(inline);
    media.classList.add("playing");
    inline.play().catch(() => {});
  }

  function rest(index) {
    clearTimeout(pending);
    if (playing !== index) return;
    playing = -1;
    cards[index].querySelector(".media")?.classList.remove("playing");
    still(inline);
    inline = null;
  }

  // ---- filters and search

  let status = "", code = "", wanted = [], current = -1, shown = rows.map((_, index) => index), places = new Map();
  const plainly = (text) => text.normalize("NFKD").replace(/\p{M}+/gu, "").toLowerCase();
  let haystacks = null;

  function matches(index) {
    const row = rows[index];
    if (status && row.s !== status) return false;
    if (code && row.k !== code) return false;
    return wanted.every((word) => haystacks[index].includes(word));
  }

  function refresh() {
    wanted = plainly(search.value).split(/\s+/).filter(Boolean);
    if (wanted.length && !haystacks) {
      haystacks = rows.map((row) => plainly([row.n, ...row.c, row.s, row.e, row.k, row.id, row.u, ...(row.w || [])].join("\n")));
    }
    shown = [];
    cards.forEach((card, index) => {
      const hit = matches(index);
      if (card.hidden === hit) card.hidden = !hit;
      if (hit) shown.push(index);
    });
    places = new Map(shown.map((index, place) => [index, place]));
    const all = shown.length === rows.length;
    const note = code ? " with “" + code.replaceAll("_", " ") + "”" : "";
    byId("count").textContent = all ? number(rows.length) + (rows.length === 1 ? " row" : " rows") : number(shown.length) + " of " + number(rows.length) + " rows" + note;
    byId("empty").hidden = shown.length > 0;
    byId("empty-text").textContent = rows.length ? "No row matches." : "This run has no rows.";
    byId("clear").hidden = !rows.length;
    for (const chip of byId("chips").children) chip.setAttribute("aria-pressed", String(chip.status === status));
  }

  function only(nextStatus, nextCode) {
    status = nextStatus;
    code = nextCode || "";
    refresh();
  }

  for (const name of ["", ...STATUSES]) {
    const count = name ? rows.filter((row) => row.s === name).length : rows.length;
    if (name && !count) continue;
    const chip = el("button", name ? "chip t-" + name : "chip", name ? icon(name) : "", name ? name[0].toUpperCase() + name.slice(1) : "All", el("b", "", number(count)));
    chip.type = "button";
    chip.status = name;
    if (name) chip.title = meanings[name];
    chip.addEventListener("click", () => only(status === name ? "" : name));
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
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(refresh, 90); });
  byId("clear").addEventListener("click", () => { search.value = ""; only(""); search.focus(); });

  // ---- one row in detail

  function copier(text, what) {
    const button = el("button", "copy", icon("copy"));
    button.type = "button";
    button.title = "Copy " + what;
    button.setAttribute("aria-label", "Copy " + what);
    button.addEventListener("click", async () => {
      await copy(text);
      button.classList.add("done");
      button.replaceChildren(icon("succeeded"));
      button.setAttribute("aria-label", "Copied");
      setTimeout(() => { button.classList.remove("done"); button.replaceChildren(icon("copy")); button.setAttribute("aria-label", "Copy " + what); }, 1600);
    });
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
    if (expired()) text.append("The links in this page have expired; ", el("code", "", "reelsheet report " + run), " makes new ones.");
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

  function show(index) {
    const row = rows[index];
    if (playing >= 0) rest(playing);
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
    for (const warning of row.w || []) parts.push(say("p", "note s-skipped", warning));

    const acts = el("div", "acts");
    if (row.v) acts.append(link(row.v, "act main", "Open clip", "out"));
    (row.m || []).forEach((address, n) => safe(address) && acts.append(link(address, "act", "Clip " + (n + 2), "out")));
    const image = cell(row, "image").trim();
    if (/^https?:/i.test(image) && safe(image)) acts.append(link(image, "act", "Picture", "picture"));
    if (acts.firstChild) parts.push(acts);

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
    columns.forEach((column, n) => n !== roles.prompt && row.c[n].trim() && fact(cells, column || "(no name)", row.c[n]));
    if (cells.firstChild) parts.push(el("h3", "", "From the sheet · line " + row.l), cells);

    side.replaceChildren(...parts.filter(Boolean));
    side.scrollTop = 0;
    const place = places.get(index);
    byId("d-where").textContent = number(place + 1) + " of " + number(shown.length);
    byId("d-prev").disabled = place === 0;
    byId("d-next").disabled = place === shown.length - 1;
    if (!detail.open) {
      detail.showModal();
      side.focus();
    }
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
    focusCard(lit);
  });

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
    if (detail.open) {
      const video = stage.querySelector("video");
      if (key === "j" || (key === "ArrowRight" && target !== video)) step(1);
      else if (key === "k" || (key === "ArrowLeft" && target !== video)) step(-1);
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
    else if (onCard && key === "ArrowRight") move(1);
    else if (onCard && key === "ArrowLeft") move(-1);
    else if (onCard && key === "ArrowDown") move(across());
    else if (onCard && key === "ArrowUp") move(-across());
    else if (onCard && key === " ") playing === current ? rest(current) : preview(current);
    else if (onCard && key === "Escape") { rest(current); target.blur(); }
    else if (key === "Escape" && (status || code || search.value)) { search.value = ""; only(""); }
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
    byId("ended").append(el("code", "", "reelsheet report " + run), " makes a page with new links.");
    byId("ended").hidden = false;
  }

  byId("tools").hidden = !rows.length;
  grid.append(...cards);
  refresh();
  cards.forEach((card) => near.observe(card));
})();
