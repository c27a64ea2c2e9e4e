  // ---- cards: all have one height, so an empty shell keeps its place and is filled only near the window

  const cards = rows.map((row, index) => {
    const card = el("li", "card");
    card.index = index;
    card.addEventListener("focusin", () => { current = index; });
    return card;
  });

  // ---- takes of one picture stand side by side, where the first of them is

  const pictures = new Map(), order = [], blocks = [], groups = [];
  rows.forEach((row, index) => row.g && (pictures.get(row.g)?.push(index) || pictures.set(row.g, [index])));
  rows.forEach((row, index) => {
    const takes = pictures.get(row.g) || [index];
    if (takes[0] !== index) return;
    order.push(...takes);
    blocks.push(row.g ? group(takes) : cards[index]);
  });

  function group(takes) {
    const list = el("ul", "takes", ...takes.map((index) => cards[index])), block = el("li", "group", list);
    list.setAttribute("aria-label", takes.length + " takes of one picture");
    groups.push({ block, takes });
    return block;
  }

  // Rows that share one clip are no takes of their own.
  function nameOfTake(index, takes) {
    const clip = (take) => rows[take].i || take, clips = [...new Set(takes.map(clip))];
    const first = takes.find((take) => clip(take) === clip(index));
    if (first !== index) return "Same clip as " + rows[first].n;
    return clips.length > 1 && "Take " + (clips.indexOf(clip(index)) + 1) + " of " + clips.length;
  }

  // A group is as wide as the takes that it shows, and at most as wide as the grid.
  function arrange() {
    const most = across();
    for (const { block, takes } of groups) {
      const count = takes.filter((index) => !cards[index].hidden).length;
      block.hidden = !count;
      block.style.setProperty("--takes", Math.max(1, Math.min(count, most)));
    }
  }

  function fill(index) {
    const card = cards[index], row = rows[index];
    if (card.firstChild) return;
    const media = el("div", row.v ? "media" : "media bad");
    const takes = pictures.get(row.g);
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
    const take = takes && nameOfTake(index, takes);
    if (take) media.append(el("span", "take", take));
    const open = push("open", "", () => show(index));
    open.setAttribute("aria-label", (row.v ? "Play " : "Show ") + row.n + ", " + row.s);
    card.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(index));
    card.addEventListener("pointerleave", () => rest(index));
    open.addEventListener("focus", () => { if (open.matches(":focus-visible") && !calm.matches) preview(index); });
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
          row.w ? el("span", "warn", icon("warning"), row.w.length === 1 ? "warning" : row.w.length + " warnings") : ""))),
      open, review.has(index) ? judge(index) : row.v ? "" : el("div", "judge", change(index)));
    paint(index);
  }

  // ---- what a person says of a clip

  function judge(index) {
    const name = rows[index].n, bar = el("div", "judge");
    const note = push("note", [icon("note"), el("span", "", "Note")], () => show(index, "note"));
    note.setAttribute("aria-label", "Note, " + name);
    bar.append(verdict(index, "ok"), verdict(index, "redo"), note);
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Review of " + name);
    return bar;
  }

  function verdict(index, word) {
    const button = push(word, [icon(word), VERDICTS[word]], () => mark(index, word));
    button.setAttribute("aria-label", VERDICTS[word] + ", " + rows[index].n);
    button.setAttribute("aria-pressed", String(review.word(index) === word));
    return button;
  }

  function mark(index, word) {
    if (!review.has(index)) return;
    const now = review.word(index) === word ? "" : word;
    review.set(index, { word: now });
    marked(index);
    byId("said").textContent = rows[index].n + ": " + (now ? VERDICTS[now] : "no mark");
  }

  function marked(index) {
    for (const place of review.alike(index)) paint(place);
    tally();
  }

  // Show the marks of a row wherever it is drawn.
  function paint(index) {
    const word = review.word(index), note = review.note(index);
    cards[index].classList.toggle("is-ok", word === "ok");
    cards[index].classList.toggle("is-redo", word === "redo");
    const places = [cards[index], ...(lit === index ? [byId("d-judge")] : [])];
    for (const button of places.flatMap((place) => [...place.querySelectorAll("button.ok, button.redo")])) {
      button.setAttribute("aria-pressed", String(button.classList.contains(word || "-")));
    }
    const noted = cards[index].querySelector(".judge .note");
    if (!noted) return;
    noted.classList.toggle("on", Boolean(note));
    noted.title = note || "Write a note";
  }

  // Where to go in the sheet for a row without a clip.
  function change(index) {
    const [first] = rows[index].x || [];
    const line = rows[index].l;
    const where = first === undefined ? "Row " + line + " of the sheet" : "To change: row " + line + ", column “" + (columns[first] || "(no name)") + "”";
    const button = push("fix", [say("span", "", where), icon("right")], () => show(index, first === undefined ? "" : "cell-" + first));
    return button;
  }

  function drop(index) {
    const card = cards[index];
    if (card.contains(document.activeElement)) return;
    rest(index);
    stop(index);
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
    if (playing === index || running.has(index) || !rows[index].v || detail.open) return;
    if (playing >= 0) rest(playing);
    inline = start(index, () => rest(index));
    if (inline) playing = index;
  }

  // The clip in its card, without sound; null where the card is empty.
  function start(index, onError) {
    const media = cards[index].querySelector(".media");
    if (!media) return null;
    const video = movie(rows[index], onError);
    video.addEventListener("playing", (event) => event.target.classList.add("on"));
    media.querySelector(".cue").before(video);
    media.classList.add("playing");
    video.play().catch(() => {});
    return video;
  }

  function rest(index) {
    clearTimeout(pending);
    if (playing !== index) return;
    playing = -1;
    cards[index].querySelector(".media")?.classList.remove("playing");
    still(inline);
    inline = null;
  }

  // ---- on request, every clip in the window plays

  const MOST_PLAYING = 16, running = new Map();
  const inView = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? play : stop)(entry.target.index);
  }, { threshold: .5 });

  function play(index) {
    if (running.has(index) || running.size >= MOST_PLAYING || !rows[index].v || detail.open) return;
    if (playing === index) rest(index);
    fill(index);
    running.set(index, start(index, () => stop(index)));
  }

  function stop(index) {
    const video = running.get(index);
    if (!video) return;
    running.delete(index);
    cards[index].querySelector(".media")?.classList.remove("playing");
    still(video);
  }

  function playAll(isWanted) {
    inView.disconnect();
    [...running.keys()].forEach(stop);
    if (isWanted) cards.forEach((card) => inView.observe(card));
  }

  const isPlayingAll = () => byId("play").getAttribute("aria-pressed") === "true";
  byId("play").addEventListener("click", () => {
    byId("play").setAttribute("aria-pressed", String(!isPlayingAll()));
    playAll(isPlayingAll());
  });
