// The page's side of lazyvos_widgets.GramInspector. Python owns the log: `state` has the course of log10|Γ| over the offered
// frames, `detail` the memory that is shown (of the hovered or selected frame, or as it is now). Only highlights live here.

const CIVIDIS = [[0, 34, 78], [8, 51, 112], [53, 69, 108], [79, 87, 108], [102, 105, 112], [125, 124, 120], [148, 142, 119],
  [174, 163, 113], [200, 184, 102], [229, 207, 82], [254, 232, 56]];
const GAIN = "#009e73", LOSS = "#d55e00", PLAIN = "#8a8a8a";
const MARKS = { // reason: shape and colour (Okabe and Ito), lane under the curve for those that were refused
  filled: ["circle", "#0072b2"], replaced: ["triangle", "#009e73"], "no gain": ["cross", "#e69f00", 0], "lower bound": ["wedge", "#d55e00", 1],
};
const OTHER = ["square", "#cc79a7"];
const FORMS = {
  circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", triangle: "M0-5L5 4H-5z", wedge: "M0 5L5-4H-5z", square: "M-4-4H4V4H-4z",
  cross: "M-4-4L4 4M-4 4L4-4",
};
const HELP = "← →: frame before, after (Shift: ten) · Home, End: first, last · ↑ ↓: a slot · L: the memory as it is now · "
  + "click on the curve: select a frame · hover: look at one · Esc: leave";

const show3 = (value) => (value == null ? "−∞" : minus(value.toFixed(3)));

function heat(level) {
  const place = Math.min(1, Math.max(0, level)) * (CIVIDIS.length - 1), step = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return CIVIDIS[step].map((low, c) => Math.round(low + (CIVIDIS[step + 1][c] - low) * (place - step)));
}

function render({ model, el }) {
  let state = model.get("state"), detail = model.get("detail");
  const page = { slot: null, hover: null, asked: 0, waiting: false, next: undefined, urls: new Map() };

  // Messages ---------------------------------------------------------------------------------------------------------

  const { send, guard, button, complain, tell, live, wrong } = basics(model);

  // Nodes ------------------------------------------------------------------------------------------------------------

  const status = make("span", { class: "lazyvos-gram-status" });
  const back = button("◀", "frame before", "←", () => step(-1)), on = button("▶", "frame after", "→", () => step(1));
  const now = button("now", "the memory as it is now", "L", () => select(null));
  const helper = button("?", "keys", "", () => { help.hidden = !help.hidden; });
  const help = make("p", { class: "lazyvos-gram-help", hidden: true }, HELP);
  const matrixTitle = make("h4"), matrix = make("div"), barsTitle = make("h4"), bars = make("div");
  const left = make("section", { class: "lazyvos-gram-panel" }, matrixTitle, matrix);
  const right = make("section", { class: "lazyvos-gram-panel wide" }, barsTitle, bars);
  const strip = make("ul", { class: "lazyvos-gram-strip", role: "list", "aria-label": "stored frames" });
  const course = make("div", { class: "lazyvos-gram-course" });
  const legend = make("div", { class: "lazyvos-gram-legend" });
  const note = make("p", { class: "lazyvos-gram-note", hidden: true });
  const tip = make("div", { class: "lazyvos-tip lazyvos-gram-tip", hidden: true });
  const root = make("div", {
    class: "lazyvos lazyvos-gram", tabindex: 0, role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Gram matrix of the memory; arrow keys select a frame, press ? for the keys",
  }, make("div", { class: "lazyvos-gram-bar" }, status, back, on, now, helper), help, wrong,
  make("h4", {}, "log₁₀|Γ| over the offered frames"), course, legend, note,
  make("div", { class: "lazyvos-gram-main" }, left, right), strip, tip, live);
  el.append(root);

  // What a person does -----------------------------------------------------------------------------------------------

  function select(t) {
    page.hover = null;
    page.next = undefined;
    send("select", { t, id: ++page.asked });
  }

  /** Ask for a hovered frame; while an answer is under way only the newest wish waits. */
  function hover(t) {
    if (t === page.hover) return;
    page.hover = t;
    if (page.waiting) { page.next = t; return; }
    page.waiting = true;
    send("hover", { t, id: ++page.asked });
  }

  const times = () => state.course?.t ?? [];

  function step(by) {
    const known = times(), last = known.length - 1;
    if (last < 0) return;
    const here = state.selected == null ? last + 1 : known.indexOf(state.selected);
    const to = here < 0 ? last : here + by;
    if (to > last && (here === last || here > last)) select(null);
    else select(known[Math.min(last, Math.max(0, to))]);
  }

  function point(slot) {
    if (slot === page.slot) return;
    page.slot = slot;
    highlight();
  }

  function nextSlot(by) {
    const count = detail.entries.length;
    if (!count) return;
    point(page.slot == null ? (by > 0 ? 0 : count - 1) : (page.slot + by + count) % count);
    tell(slotWords(page.slot));
  }

  function slotWords(n) {
    const what = detail.what_if ? `: in its place log₁₀|Γ| ${show3(detail.what_if[n])} (${signed(gain(n), 3)})` : "";
    return `slot ${n + 1}, frame ${detail.entries[n]}${stays(n) ? ", always stays" : ""}${what}`;
  }

  const KEYS = {
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1), ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
    Home: () => times().length && select(times()[0]), End: () => times().length && select(times().at(-1)),
    ArrowDown: () => nextSlot(1), ArrowUp: () => nextSlot(-1), l: () => select(null), L: () => select(null),
    "?": () => { help.hidden = !help.hidden; },
    Escape: () => { point(null); document.activeElement?.blur(); root.closest(".jp-Notebook")?.focus({ preventScroll: true }); },
  };

  root.addEventListener("keydown", guard((event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const call = KEYS[event.key];
    if (!call) return;
    event.preventDefault();
    event.stopPropagation();
    call(event);
  }));

  // What there is to see ---------------------------------------------------------------------------------------------

  const stays = (n) => detail.pinned.includes(detail.entries[n]);
  const gain = (n) => (detail.what_if[n] == null ? null : detail.what_if[n] - (detail.log ?? 0));

  /** A small text beside the pointer. */
  function hint(event, text) {
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const box = root.getBoundingClientRect(), x = event.clientX - box.left;
    tip.style.top = `${event.clientY - box.top + 16}px`;
    tip.style.left = `${Math.max(4, Math.min(x + 12, box.width - tip.offsetWidth - 8))}px`;
  }

  /** Places for all slots are kept free, so that nothing moves while one looks through the frames. */
  const places = () => Math.max(1, detail.entries.length, state.slots ?? 0);
  const rowHeight = () => Math.max(9, Math.min(34, Math.floor(Math.min(340, (root.clientWidth || 400) - 72) / places())));

  function range() {
    const off = detail.gram.flatMap((row, i) => row.filter((value, j) => i !== j && value != null));
    const all = [...off, ...(detail.similarities ?? [])].filter((value) => value != null);
    return [Math.min(0.99, ...all), Math.max(1, ...detail.gram.flat().filter((value) => value != null))];
  }

  function fillMatrix() {
    const entries = detail.entries, count = entries.length, cell = rowHeight(), gutter = 44, side = places() * cell;
    matrixTitle.textContent = detail.t == null ? "Gram matrix Γ now" : `Γ as frame ${detail.t} met it`;
    if (!count) {
      matrix.replaceChildren(make("p", { class: "lazyvos-gram-hint" }, "The memory is empty: give an object on the first frame."));
      return;
    }
    const [low, high] = range(), level = (value) => (value - low) / (high - low);
    const svg = draw("svg", { role: "img", class: "lazyvos-gram-matrix" }), cells = draw("g");
    const every = Math.ceil(12 / cell);
    entries.forEach((entry, i) => {
      const middle = i * cell + cell / 2 + 4;
      if (i % every === 0) svg.append(draw("text", { x: gutter - 6, y: middle, "text-anchor": "end" }, String(entry)));
    });
    const paint = (value, x, y, i, j) => {
      const [r, g, b] = value == null ? [128, 128, 128] : heat(level(value));
      cells.append(draw("rect", {
        x, y, width: cell - 1, height: cell - 1, fill: `rgb(${r},${g},${b})`, "data-row": i, "data-column": j, class: "lazyvos-gram-cell",
      }));
      if (cell >= 26 && value != null) {
        cells.append(draw("text", {
          x: x + cell / 2 - 0.5, y: y + cell / 2 + 3, "text-anchor": "middle", "pointer-events": "none",
          style: `font-size:10px;fill:${0.3 * r + 0.6 * g + 0.1 * b > 120 ? "#000" : "#fff"}`,
        }, minus(value.toFixed(2)).replace("0.", ".")));
      }
    };
    detail.gram.forEach((row, i) => row.forEach((value, j) => paint(value, gutter + j * cell, i * cell, i, j)));
    for (let n = count; n < places(); n++) {
      svg.append(draw("rect", { x: gutter + n * cell + 1, y: n * cell + 1, width: cell - 3, height: cell - 3, class: "lazyvos-gram-free" }));
    }
    const height = side + cell + 9;
    if (detail.similarities) {
      detail.similarities.forEach((value, j) => paint(value, gutter + j * cell, side + 5, -1, j));
      svg.append(draw("text", { x: gutter - 6, y: side + 5 + cell / 2 + 4, "text-anchor": "end", style: "font-weight:700" }, String(detail.t)));
    }
    svg.append(cells, draw("rect", { class: "lazyvos-gram-frame lazyvos-gram-across" }), draw("rect", { class: "lazyvos-gram-frame lazyvos-gram-down" }));
    entries.forEach((entry, j) => {
      if (j % every) return;
      const x = gutter + j * cell + cell / 2 + 4;
      svg.append(draw("text", { x, y: height + 3, "text-anchor": "end", transform: `rotate(-90 ${x} ${height + 3})` }, String(entry)));
    });
    const legendTop = height + 36;
    for (let k = 0; k < 40; k++) {
      const [r, g, b] = heat(k / 39);
      svg.append(draw("rect", { x: gutter + k * side / 40, y: legendTop, width: side / 40 + 0.5, height: 8, fill: `rgb(${r},${g},${b})` }));
    }
    svg.append(draw("text", { x: gutter, y: legendTop + 20 }, minus(low.toFixed(2))),
      draw("text", { x: gutter + side, y: legendTop + 20, "text-anchor": "end" }, high.toFixed(2)),
      draw("text", { x: gutter + side / 2, y: legendTop + 20, "text-anchor": "middle", class: "soft" }, side > 150 ? "similarity" : ""));
    svg.setAttribute("width", gutter + side + 2);
    svg.setAttribute("height", legendTop + 24);
    svg.setAttribute("aria-label", `heat map of the similarities of ${count} stored frames, from ${low.toFixed(2)} to ${high.toFixed(2)}`);
    cells.addEventListener("pointermove", guard((event) => {
      const node = event.target.closest("[data-column]");
      if (!node) return;
      const i = Number(node.dataset.row), j = Number(node.dataset.column);
      const value = i < 0 ? detail.similarities[j] : detail.gram[i][j];
      point(i < 0 ? j : i);
      hint(event, `frame ${i < 0 ? detail.t : entries[i]} · frame ${entries[j]}: ${value == null ? "–" : minus(value.toFixed(4))}`);
    }));
    cells.addEventListener("pointerleave", guard((event) => { hint(event, ""); point(null); }));
    matrix.replaceChildren(svg);
  }

  function fillBars() {
    const entries = detail.entries, cell = rowHeight();
    barsTitle.textContent = detail.t == null ? "What if" : `What if frame ${detail.t} took the place of`;
    bars.style.minHeight = `${places() * cell + 26}px`;
    if (!detail.what_if) {
      const why = detail.t == null
        ? "Select an offered frame (click on the curve, or press ←) to see what each replacement would have given."
        : detail.reason === "lower bound" || detail.reason === "filled" || detail.reason === "pinned"
          ? `Frame ${detail.t} met free slots: nothing had to go.` : `For frame ${detail.t} no replacement was weighed.`;
      bars.replaceChildren(make("p", { class: "lazyvos-gram-hint" }, why));
      return;
    }
    const width = Math.max(260, right.clientWidth - 4), gutter = 44, text = 140, half = (width - gutter - text) / 2, zero = gutter + half;
    const finite = entries.map((_, n) => gain(n)).filter((value) => value != null).map(Math.abs), reach = Math.max(1e-4, ...finite);
    const svg = draw("svg", { role: "img", width, height: entries.length * cell + 26, class: "lazyvos-gram-bars",
      "aria-label": `log10 of the Gramian after each replacement, against ${show3(detail.log)} now` });
    entries.forEach((entry, n) => {
      const change = gain(n), size = change == null ? half : Math.abs(change) / reach * half, y = n * cell;
      const gains = change != null && change >= 0, paint = stays(n) ? PLAIN : gains ? GAIN : LOSS;
      const marks = `${show3(detail.what_if[n])} (${signed(change, 3)})${n === detail.best ? " ★" : ""}`;
      svg.append(
        draw("rect", { class: "lazyvos-gram-row", "data-slot": n, x: 0, y, width, height: cell }),
        draw("text", { x: gutter - 6, y: y + cell / 2 + 4, "text-anchor": "end", "pointer-events": "none" }, String(entry)),
        draw("rect", { class: "lazyvos-gram-gain", x: gains ? zero : zero - size, y: y + 2, width: Math.max(1, size), height: cell - 5,
          fill: paint, "fill-opacity": stays(n) ? 0.45 : 1, rx: 2, "pointer-events": "none" }),
        draw("text", { x: width - text + 6, y: y + cell / 2 + 4, "pointer-events": "none",
          style: n === detail.best ? "font-weight:700" : "" }, marks));
    });
    const bottom = entries.length * cell;
    svg.append(draw("line", { x1: zero, x2: zero, y1: 0, y2: bottom, stroke: "currentColor", "stroke-width": 1.2 }),
      draw("text", { x: zero, y: bottom + 14, "text-anchor": "middle" }, `now ${show3(detail.log)}`),
      draw("text", { x: zero - half, y: bottom + 14, class: "soft" }, half > 125 ? "◂ less diverse" : ""),
      draw("text", { x: zero + half, y: bottom + 14, "text-anchor": "end", class: "soft" }, half > 125 ? "more diverse ▸" : ""));
    svg.addEventListener("pointermove", guard((event) => {
      const node = event.target.closest("[data-slot]");
      if (!node) return;
      point(Number(node.dataset.slot));
      hint(event, slotWords(page.slot));
    }));
    svg.addEventListener("pointerleave", guard((event) => { hint(event, ""); point(null); }));
    bars.replaceChildren(svg);
  }

  /** Address of a thumbnail; kept while it is shown. */
  function picture(t) {
    const bytes = detail.thumbs[String(t)];
    if (!bytes?.byteLength) return null;
    if (!page.urls.has(t)) page.urls.set(t, URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
    return page.urls.get(t);
  }

  function fillStrip() {
    const wanted = new Set([...detail.entries, detail.t]);
    for (const [t, url] of page.urls) if (!wanted.has(t)) { URL.revokeObjectURL(url); page.urls.delete(t); }
    const tile = (t, title, words, classes, n) => {
      const url = picture(t);
      const node = make("li", { class: `lazyvos-gram-slot ${classes}`, title }, url ? make("img", { src: url, alt: `frame ${t}` }) : make("i"),
        `frame ${t}`, make("small", {}, words));
      if (n != null) {
        node.dataset.slot = n;
        node.addEventListener("pointerenter", guard(() => point(n)));
        node.addEventListener("pointerleave", guard(() => point(null)));
      }
      return node;
    };
    const tiles = detail.entries.map((t, n) => {
      const word = stays(n) ? "stays" : detail.replaced === t ? "went" : "";
      return tile(t, slotWords(n), `slot ${n + 1}${word ? `, ${word}` : ""}`, "", n);
    });
    for (let n = tiles.length; n < places(); n++) tiles.push(make("li", { class: "lazyvos-gram-slot free" }, make("i"), "free", make("small", {}, `slot ${n + 1}`)));
    tiles.push(detail.t == null ? make("li", { class: "lazyvos-gram-slot", "aria-hidden": "true" }) : tile(detail.t, detail.words, detail.reason, "new", null));
    strip.classList.toggle("many", places() > 10);
    strip.replaceChildren(...tiles);
  }

  const markOf = (reason) => MARKS[reason] ?? OTHER;

  function mark(reason, x, y, size = 1) {
    const [shape, paint] = markOf(reason), open = shape === "cross";
    return draw("path", { d: FORMS[shape], transform: `translate(${x} ${y}) scale(${size})`, fill: open ? "none" : paint,
      stroke: open ? paint : "var(--lazyvos-paper)", "stroke-width": open ? 2.2 : 0.8, class: "lazyvos-gram-mark", "data-reason": reason });
  }

  let scale = null;
  function fillCourse() {
    const { t, log, reason } = state.course, width = Math.max(280, course.clientWidth), gutter = 62, plot = 132, lane = 15;
    const end = Math.max(state.t, t.at(-1) ?? 0, 1), values = log.filter((value) => value != null);
    const low = values.length ? Math.min(...values) : -1, high = values.length ? Math.max(...values) : 0, span = Math.max(high - low, 0.05);
    const x = (at) => gutter + at / end * (width - gutter - 12), y = (value) => 8 + (high + 0.09 * span - value) / (span * 1.17) * plot;
    const lanes = 8 + plot + 12, base = lanes + 2 * lane;
    scale = { x, t, end, gutter, width };
    const svg = draw("svg", { width, height: base + 22, role: "img", class: "lazyvos-gram-curve",
      "aria-label": `log10 of the Gramian over ${t.length} offered frames, now ${show3(log.at(-1))}` });
    for (const value of ticks(low - 0.05 * span, high, 7)) {
      svg.append(draw("line", { x1: gutter, x2: width - 12, y1: y(value), y2: y(value), stroke: "var(--lazyvos-line)", "stroke-width": 0.5 }),
        draw("text", { x: gutter - 6, y: y(value) + 4, "text-anchor": "end" }, minus(String(value))));
    }
    for (const at of ticks(0, end, Math.max(2, Math.floor(width / 90)))) {
      svg.append(draw("line", { x1: x(at), x2: x(at), y1: base - 3, y2: base, stroke: "currentColor" }),
        draw("text", { x: x(at), y: base + 13, "text-anchor": "middle" }, String(at)));
    }
    svg.append(draw("line", { x1: gutter, x2: width - 12, y1: base, y2: base, stroke: "currentColor", "stroke-width": 0.8 }));
    let path = "";
    t.forEach((at, i) => {
      if (log[i] == null) return;
      path += path ? `H${x(at).toFixed(1)}V${y(log[i]).toFixed(1)}` : `M${x(at).toFixed(1)} ${y(log[i]).toFixed(1)}`;
    });
    if (path) svg.append(draw("path", { d: `${path}H${x(end).toFixed(1)}`, fill: "none", stroke: "currentColor", "stroke-width": 1.4 }));
    ["no gain", "lower bound"].forEach((name, i) => {
      if (state.counts[name]) svg.append(draw("text", { x: gutter - 6, y: lanes + i * lane + 4, "text-anchor": "end", class: "soft", style: "font-size:9px" }, name));
    });
    t.forEach((at, i) => {
      const row = markOf(reason[i])[2];
      const node = mark(reason[i], x(at), row == null ? (log[i] == null ? 8 + plot : y(log[i])) : lanes + row * lane);
      node.dataset.t = at;
      svg.append(node);
    });
    const shown = detail.t ?? state.selected;
    if (shown != null) {
      svg.append(draw("line", { x1: x(shown), x2: x(shown), y1: 2, y2: base, stroke: "#d55e00", "stroke-width": 2, class: "lazyvos-gram-here" }),
        draw("text", { x: x(shown) + (x(shown) > width - 80 ? -5 : 5), y: 11, "text-anchor": x(shown) > width - 80 ? "end" : "start", style: "fill:#d55e00;font-weight:700" }, `frame ${shown}`));
    }
    course.replaceChildren(svg);
    legend.replaceChildren(...Object.entries(state.counts).map(([name, count]) => {
      const kept = state.course.kept[reason.indexOf(name)];
      return make("span", {}, draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, mark(name, 7, 7)),
        `${kept === false ? "refused: " : ""}${name} (${count})`);
    }));
    note.hidden = !state.thinned;
    note.textContent = state.thinned ? `${state.thinned} offers of this long video are counted but no longer shown one by one.` : "";
  }

  /** The offered frame nearest to the pointer. */
  function under(event) {
    if (!scale?.t.length) return null;
    const at = event.clientX - course.getBoundingClientRect().left;
    return scale.t.reduce((best, t) => (Math.abs(scale.x(t) - at) < Math.abs(scale.x(best) - at) ? t : best));
  }

  course.addEventListener("pointermove", guard((event) => {
    const t = under(event);
    if (t == null) return;
    const i = state.course.t.indexOf(t);
    hover(t);
    hint(event, `frame ${t}: ${state.course.reason[i]}, log₁₀|Γ| ${show3(state.course.log[i])}`);
  }));
  course.addEventListener("pointerleave", guard((event) => { hover(null); hint(event, ""); }));
  course.addEventListener("click", guard((event) => {
    const t = under(event);
    root.focus({ preventScroll: true });
    if (t != null) select(t === state.selected ? null : t);
  }));

  /** Mark one slot in all three places. */
  function highlight() {
    const n = page.slot != null && page.slot < detail.entries.length ? page.slot : null, cell = rowHeight(), side = detail.entries.length * cell;
    const rest = detail.similarities ? places() * cell - side + cell + 5 : 0;
    const boxes = { across: [44, n * cell, side, cell], down: [44 + n * cell, 0, cell, side + rest] };
    for (const [name, [x, y, width, height]] of Object.entries(boxes)) {
      const node = matrix.querySelector(`.lazyvos-gram-${name}`);
      if (!node) continue;
      node.style.display = n == null ? "none" : "";
      for (const [key, value] of Object.entries({ x: x - 1, y: y - 1, width: width + 1, height: height + 1 })) node.setAttribute(key, value);
    }
    for (const node of root.querySelectorAll(".lazyvos-gram-row, .lazyvos-gram-slot")) {
      node.classList.toggle("on", n != null && node.dataset.slot === String(n));
    }
  }

  // What Python says -------------------------------------------------------------------------------------------------

  function refresh() {
    const next = model.get("state"), shown = model.get("detail");
    if (next.seq === undefined || shown.seq !== next.seq) return;
    [state, detail] = [next, shown];
    if (state.answer >= page.asked) page.waiting = false;
    paint();
    if (state.error) complain(state.error);
    if (state.selected != null && page.hover == null) tell(detail.words);
    if (!page.waiting && page.next !== undefined) {
      const wish = page.next;
      page.next = undefined;
      page.hover = undefined;
      hover(wish);
    }
    const best = detail.best == null ? "" : detail.entries[detail.best];
    Object.assign(root.dataset, { seq: state.seq, t: state.t, selected: state.selected ?? "", shown: detail.t ?? "", slots: detail.entries.length, best });
  }

  function paint() {
    status.textContent = status.title = detail.t == null ? state.now : detail.words;
    back.disabled = on.disabled = !times().length;
    now.disabled = state.selected == null;
    fillMatrix();
    fillBars();
    fillStrip();
    fillCourse();
    highlight();
  }

  const changed = guard(refresh);
  model.on("change:state", changed);
  let wide = 0;
  const watcher = new ResizeObserver(guard(() => {
    if (root.clientWidth === wide || !state.course) return;
    wide = root.clientWidth;
    tip.hidden = true;
    paint();
  }));
  watcher.observe(root);
  changed();
  return () => {
    model.off("change:state", changed);
    watcher.disconnect();
    for (const url of page.urls.values()) URL.revokeObjectURL(url);
  };
}

export default { render };
