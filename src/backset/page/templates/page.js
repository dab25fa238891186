// Zoom, pan, search and jump. Without this the page says the same: graphs scroll, links jump.
"use strict";
document.documentElement.classList.add("js");
const LEAST = 0.04, MOST = 2, READABLE = 0.55, FAR = 0.3, NARROW = 640;

for (const graph of document.querySelectorAll(".graph")) {
  const find = (selector) => graph.querySelector(selector);
  const canvas = find(".canvas"), sheet = find(".sheet"), input = find("input"), said = find("output");
  const boxes = [...graph.querySelectorAll(".box")];
  let scale = 1, texts = null, hits = [], at = -1;

  function zoom(to, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const was = scale, wide = sheet.offsetWidth, high = sheet.offsetHeight;
    scale = Math.min(MOST, Math.max(LEAST, to));
    // A transform lays nothing out anew, as `zoom` would; margins make up for the room it leaves.
    const side = Math.max(0, (canvas.clientWidth - wide * scale) / 2);
    sheet.classList.toggle("far", scale < FAR);
    sheet.style.transform = `scale(${scale})`;
    sheet.style.margin = `0 ${(scale - 1) * wide + side}px ${(scale - 1) * high}px ${side}px`;
    canvas.scrollLeft = (canvas.scrollLeft + x) * scale / was - x;
    canvas.scrollTop = (canvas.scrollTop + y) * scale / was - y;
  }

  function whole() {
    const wide = canvas.clientWidth / (sheet.offsetWidth || 1);
    return Math.min(1, wide, canvas.clientHeight / (sheet.offsetHeight || 1));
  }

  function show(box) {
    const outer = canvas.getBoundingClientRect(), inner = box.getBoundingClientRect();
    canvas.scrollBy(inner.left + inner.width / 2 - outer.left - outer.width / 2,
      inner.top + inner.height / 2 - outer.top - outer.height / 2);
  }

  function choose(box) {
    for (const each of graph.querySelectorAll(".chosen, .lit")) each.classList.remove("chosen", "lit");
    if (!box) return;
    box.classList.add("chosen");
    for (const edge of graph.querySelectorAll(`[data-of~="${box.id}"]`)) edge.classList.add("lit");
  }

  function search() {
    texts ??= boxes.map((box) => box.textContent.toLowerCase());
    const words = input.value.trim().toLowerCase();
    hits = words ? boxes.filter((_, number) => texts[number].includes(words)) : [];
    boxes.forEach((box) => box.classList.toggle("hit", hits.includes(box)));
    at = -1;
    said.textContent = words ? `${hits.length} found` : "";
    if (hits.length) next(1, true);
  }

  function next(step) {
    if (!hits.length) return;
    at = (at + step + hits.length) % hits.length;
    choose(hits[at]);
    show(hits[at]);
    said.textContent = `${at + 1} of ${hits.length}`;
  }

  function list(is_list) {
    graph.classList.toggle("list", is_list);
    for (const button of graph.querySelectorAll("[data-list]"))
      button.setAttribute("aria-pressed", String((button.dataset.list === "yes") === is_list));
    for (const button of graph.querySelectorAll("[data-zoom]")) button.disabled = is_list;
  }

  const zooms = { in: () => zoom(scale * 1.25), out: () => zoom(scale / 1.25), fit: () => zoom(whole()), one: () => zoom(1) };
  graph.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.zoom) zooms[button.dataset.zoom]();
    else if (button?.dataset.list) list(button.dataset.list === "yes");
    else if (canvas.contains(event.target) && !event.target.closest("a, summary"))
      choose(event.target.closest(".box"));
  });
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") next(event.shiftKey ? -1 : 1);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const does = { "+": zooms.in, "=": zooms.in, "-": zooms.out, 0: zooms.one, f: zooms.fit, "/": () => input.focus() }[event.key];
    if (does) { does(); event.preventDefault(); }
  });
  canvas.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey) || graph.classList.contains("list")) return;
    event.preventDefault();
    const { left, top } = canvas.getBoundingClientRect();
    zoom(scale * Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
  }, { passive: false });

  // A finger scrolls by itself; a mouse takes hold of the sheet.
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button || event.target.closest("a, summary, code")) return;
    const x = event.clientX + canvas.scrollLeft, y = event.clientY + canvas.scrollTop;
    const move = (moved) => {
      canvas.classList.add("dragged");
      canvas.scrollTo(x - moved.clientX, y - moved.clientY);
    };
    const end = () => {
      canvas.classList.remove("dragged");
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
  });

  function come() {
    const box = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (box && boxes.includes(box)) { choose(box); show(box); }
  }
  addEventListener("hashchange", come);
  list(graph.dataset.narrow === "list" && innerWidth < NARROW);
  const first = find(".first");
  zoom(whole() > READABLE ? whole() : 1);
  if (first && scale === 1) show(first);
  come();
}
addEventListener("beforeprint", () => {
  for (const graph of document.querySelectorAll(".graph:not(.list)")) graph.classList.add("list", "printed");
});
addEventListener("afterprint", () => {
  for (const graph of document.querySelectorAll(".printed")) graph.classList.remove("list", "printed");
});
