  // Everything shown comes from the JSON above by textContent; no string ever becomes markup.
  const { rows, columns, roles, home, run, destination, expires, meanings, part } = JSON.parse(document.getElementById("data").textContent);
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

  // A button with an action.
  function push(name, content, act) {
    const button = el("button", name, ...[content].flat());
    button.type = "button";
    button.addEventListener("click", act);
    return button;
  }

  const VERDICTS = { ok: "OK", redo: "Redo" };
  const pill = (status) => el("span", "pill s-" + status, icon(status), status);
  // A page that lies beside its clips plays those; one that was mailed, or is read from a bucket, the linked ones.
  for (const row of rows) if (row.f) [row.v, row.alt] = location.protocol === "file:" || !row.v ? [row.f, row.v] : [row.v, row.f];
  const cell = (row, role) => (role === "prompt" && row.q ? row.q : role in roles ? row.c[roles[role]] : "");
  const expired = () => expires && Date.now() > expires * 1000;

  // A page that lies beside the others leads to those; elsewhere a link is needed.
  if (location.protocol !== "file:") for (const page of document.querySelectorAll(".pages [data-link]")) page.href = page.dataset.link || page.href;

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
