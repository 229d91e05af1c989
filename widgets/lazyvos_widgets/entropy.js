// The page's side of lazyvos_widgets.EntropyCurve. Python owns the numbers and sends a window of them in at most some
// hundred steps (lowest and highest value of each), with the marks in it. What is drawn (S or ΔS) and hovered lives here.

const MARKS = { // kind: shape (from its middle), filled, name, pixels below the curve (so that marks of one frame are seen side by side)
  asked: ["m0-6l6 11h-12z", true, "request", -9], pseudo: ["m0-6l6 6l-6 6l-6-6z", false, "pseudo-correction", 0],
  clicked: ["m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z", true, "click", 9],
};
const LIMITS = { user: ["τᵤ asks", "#d55e00"], pseudo: ["τₚ corrects itself", "#a8578a"], memory: ["τₘ not stored", "#0072b2"] };
const MEASURES = { score: ["S", 0], delta: ["ΔS", 2] };
const HELP = "← →: frame before, after (Shift: ten) · ↑ ↓: mark before, after · Home, End: first, last frame · L: back to live · "
  + "S: uncertainty or its change · Ctrl wheel, + and −: zoom, 0: all frames, drag: move · click: look at that frame · Esc: leave";


function render({ model, el }) {
  const options = model.get("options");
  const page = {
    measure: options.measure, asked: 0, waiting: false, next: null, at: undefined, drag: null, url: null, bytes: null,
  };
  let state = model.get("state"), tables = {}, scale = null;

  // Messages ---------------------------------------------------------------------------------------------------------

  const { send, guard, button, complain, tell, live, wrong } = basics(model);

  const css = (id) => `rgb(${options.colors[(id - 1) % options.colors.length].join(",")})`;
  const shapeOf = (id) => SHAPES[(id - 1) % SHAPES.length];
  const dashOf = (id) => (id > 1 ? `${4 + 2 * ((id - 2) % 3)} 2` : null);

  // Nodes ------------------------------------------------------------------------------------------------------------

  const status = make("span", { class: "lazyvos-entropy-status" });
  const measures = Object.fromEntries(Object.entries(MEASURES).map(([name, [text]]) =>
    [name, button(text, name === "score" ? "uncertainty" : "change of the uncertainty", "S", () => measure(name))]));
  const before = button("◀", "mark before", "↑", () => toMark(-1)), after = button("▶", "mark after", "↓", () => toMark(1));
  const back = button(options.live ? "back to live" : "no frame", options.live ? "back to live" : "select no frame", "L", () => look(null));
  const closer = button("+", "zoom in", "+", () => zoom(0.5)), wider = button("−", "zoom out", "−", () => zoom(2));
  const whole = button("all", "all frames", "0", () => zoom(0));
  const helper = button("?", "keys", "", () => { help.hidden = !help.hidden; });
  const help = make("p", { class: "lazyvos-entropy-help", hidden: true }, HELP);
  const plot = make("div", { class: "lazyvos-entropy-plot" });
  const legend = make("div", { class: "lazyvos-entropy-legend" });
  const picture = make("img", { alt: "the past frame that is looked at", hidden: true });
  const facts = make("div", { class: "lazyvos-entropy-facts" });
  const past = make("div", { class: "lazyvos-entropy-past", hidden: true }, picture, facts);
  const tip = make("div", { class: "lazyvos-tip lazyvos-entropy-tip", hidden: true });
  const root = make("div", {
    class: "lazyvos lazyvos-entropy", tabindex: 0, role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": "uncertainty over the frames; arrow keys look at a frame, press ? for the keys",
  }, make("div", { class: "lazyvos-entropy-bar" }, status, back, ...Object.values(measures), before, after, wider, closer, whole, helper),
  help, wrong, plot, legend, past, tip, live);
  el.append(root);

  // What a person does -----------------------------------------------------------------------------------------------

  /** Ask for a frame; while an answer is under way only the newest wish waits. `until`: any frame before that one will do. */
  function look(t, until) {
    page.at = t;
    ask("look", { t, until: until ?? (t == null ? null : t + 1), measure: page.measure });
  }

  function ask(kind, content) {
    if (page.waiting) { page.next = [kind, content]; return; }
    page.waiting = true;
    send(kind, { ...content, id: ++page.asked });
  }

  function step(by) {
    const here = page.at ?? state.look ?? state.t, to = Math.max(0, here + by);
    look(options.live ? (to >= state.t ? null : to) : Math.min(to, state.t));
  }

  const toMark = (by) => { page.at = undefined; ask("mark", { by }); };

  function measure(name) {
    page.measure = name;
    paint();
  }

  function zoom(factor, around = state.look ?? (state.window[0] + state.window[1]) / 2) {
    const [first, last] = state.window, all = state.frames - 1;
    const wide = factor ? Math.max(20, (last - first) * factor) : Infinity;
    if (wide >= all) return ask("window", { first: null, last: null });
    const place = Math.min(1, Math.max(0, (around - first) / Math.max(1, last - first)));
    return moveTo(Math.round(around - place * wide), Math.round(wide));
  }

  function moveTo(first, wide) {
    const low = Math.max(0, Math.min(first, state.frames - 1 - wide));
    ask("window", { first: low, last: low + wide });
  }

  const KEYS = {
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1), ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
    ArrowUp: () => toMark(-1), ArrowDown: () => toMark(1), Home: () => look(0), End: () => look(options.live ? null : state.t),
    l: () => look(null), L: () => look(null), s: () => measure(page.measure === "score" ? "delta" : "score"),
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => zoom(0), "?": () => { help.hidden = !help.hidden; },
    Escape: () => { document.activeElement?.blur(); root.closest(".jp-Notebook")?.focus({ preventScroll: true }); },
  };
  KEYS.S = KEYS.s;

  root.addEventListener("keydown", guard((event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !state.course) return;
    const call = KEYS[event.key];
    if (!call) return;
    event.preventDefault();
    event.stopPropagation();
    call(event);
  }));

  const inPlot = (event) => event.clientX - plot.getBoundingClientRect().left;
  const frameAt = (x) => scale.first + (x - scale.left) / scale.wide * (scale.last + 1 - scale.first);

  /** What lies under the pointer: a mark that is near, or the frames of that pixel. */
  function under(x, y) {
    const near = scale.marks.map((mark) => [Math.hypot(mark.x - x, (mark.y - y) / 2), mark]).filter(([far]) => far < 8);
    if (near.length) {
      const [, mark] = near.reduce((best, one) => (one[0] < best[0] ? one : best));
      return [mark.t, mark.t + 1, mark];
    }
    const per = Math.max((scale.last + 1 - scale.first) / scale.wide, state.course.step), here = Math.floor(frameAt(x));
    if (per <= 1) return [Math.min(Math.max(0, here), state.t), null, null];
    const low = Math.floor(frameAt(x) - per), high = Math.ceil(frameAt(x) + per);
    return [Math.min(Math.max(0, low), state.t), Math.min(high, state.frames), null];
  }

  plot.addEventListener("pointerdown", guard((event) => {
    if (event.button || !scale) return;
    event.preventDefault();
    root.focus({ preventScroll: true });
    plot.setPointerCapture(event.pointerId);
    page.drag = { x: inPlot(event), window: [...state.window], moved: false };
  }));
  plot.addEventListener("pointermove", guard((event) => {
    if (!scale) return;
    const x = inPlot(event);
    if (!page.drag) return hint(event, x);
    if (!page.drag.moved && (Math.abs(x - page.drag.x) < 5 || !state.zoomed)) return undefined;
    page.drag.moved = true;
    const [first, last] = page.drag.window;
    return moveTo(first - Math.round((x - page.drag.x) / scale.wide * (last - first)), last - first);
  }));
  plot.addEventListener("pointerup", guard((event) => {
    const drag = page.drag;
    page.drag = null;
    if (!drag || drag.moved) return;
    const [t, until] = under(inPlot(event), event.clientY - plot.getBoundingClientRect().top);
    look(options.live && t >= state.t ? null : t, until);
  }));
  plot.addEventListener("pointercancel", () => { page.drag = null; });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });
  plot.addEventListener("wheel", guard((event) => {
    if ((!event.ctrlKey && !event.metaKey) || !scale) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY / 300), frameAt(inPlot(event)));
  }), { passive: false });

  /** The numbers beside the pointer. */
  function hint(event, x) {
    const at = frameAt(x), { start, step: by, objects } = state.course, i = Math.floor((at - start) / by);
    const [, column] = MEASURES[page.measure], [, , mark] = under(x, event.clientY - plot.getBoundingClientRect().top);
    const words = objects.map((id) => [id, tables[id]?.[4 * i + column + 1]]).filter(([, v]) => Number.isFinite(v))
      .map(([id, v]) => `${shapeOf(id)} ${id}: ${minus(v.toFixed(3))}`);
    const first = start + i * by, frame = by > 1 ? `frames ${first}–${first + by - 1}, highest` : `frame ${first}`;
    tip.textContent = mark ? `frame ${mark.t}: ${MARKS[mark.kind][2]}, object ${mark.object}` : `${frame}: ${words.join("  ")}`;
    tip.hidden = !mark && !words.length;
    if (tip.hidden) return;
    const box = root.getBoundingClientRect();
    tip.style.top = `${event.clientY - box.top + 16}px`;
    tip.style.left = `${Math.max(4, Math.min(event.clientX - box.left + 12, box.width - tip.offsetWidth - 8))}px`;
  }

  // What there is to see ---------------------------------------------------------------------------------------------

  function paint() {
    const frames = state.frames;
    for (const [name, node] of Object.entries(measures)) node.setAttribute("aria-pressed", name === page.measure);
    back.hidden = state.look == null;
    whole.disabled = wider.disabled = !state.zoomed;
    before.disabled = after.disabled = !frames;
    status.textContent = state.look != null ? `looking at frame ${state.look}` : options.live ? `frame ${state.t}` : `${frames} frames`;
    status.textContent += state.course.step > 1 ? ` · ${state.course.step} frames a step` : "";
    fillPlot();
    fillLegend();
    fillPast();
  }

  /** Lowest and highest value that has to fit; thresholds belong to it. */
  function range(column) {
    let low = 0, high = 0.05;
    for (const id of state.course.objects) {
      const table = tables[id];
      for (let i = column; i < table.length; i += 4) {
        if (table[i] < low) low = table[i];
        if (table[i + 1] > high) high = table[i + 1];
      }
    }
    for (const object of state.now?.objects ?? []) {
      const value = object[page.measure];
      if (value != null) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    for (const [, of, value] of state.limits) if (of === page.measure) high = Math.max(high, value * 1.06);
    const room = 0.08 * (high - low);
    return [low < 0 ? low - room : 0, high + room];
  }

  /** A curve through the highest values, and where a step holds several frames the band down to the lowest. */
  function lines(id, column, x, y) {
    const table = tables[id], { start, step: by } = state.course, up = [], parts = [];
    let run = [];
    const close = () => {
      if (run.length) {
        up.push(`M${run.map(([px, , high]) => `${px} ${high}`).join("L")}${run.length === 1 ? "h0.01" : ""}`);
        if (by > 1) parts.push(`M${run.map(([px, , high]) => `${px} ${high}`).join("L")}L${run.slice().reverse().map(([px, low]) => `${px} ${low}`).join("L")}z`);
      }
      run = [];
    };
    for (let i = 0; 4 * i < table.length; i++) {
      const low = table[4 * i + column], high = table[4 * i + column + 1];
      if (Number.isNaN(high)) { close(); continue; }
      run.push([x(start + i * by + by / 2).toFixed(1), y(low).toFixed(1), y(high).toFixed(1)]);
    }
    const now = state.now?.objects.find((object) => object.id === id)?.[page.measure];
    if (now != null) run.push([x(state.now.t + 0.5).toFixed(1), y(now).toFixed(1), y(now).toFixed(1)]);
    close();
    return [up.join(""), parts.join("")];
  }

  function fillPlot() {
    const width = Math.max(280, plot.clientWidth), left = 44, right = 10, top = 14, tall = 150, [name, column] = MEASURES[page.measure];
    const [first, last] = state.window, wide = width - left - right, [low, high] = range(column), base = top + tall + 10;
    const x = (t) => left + (t - first) / (last + 1 - first) * wide, y = (value) => top + (high - value) / (high - low) * tall;
    const inside = (t) => t >= first && t <= last;
    const { objects, events, kept } = state.course;
    scale = { first, last, left, wide, marks: [] };
    const svg = draw("svg", { width, height: base + 30, role: "img", class: "lazyvos-entropy-curve",
      "aria-label": `${name} of ${objects.length} objects over frames ${first} to ${last}, ${events.length} marks` });
    for (const value of ticks(low, high, 5)) {
      svg.append(draw("line", { x1: left, x2: left + wide, y1: y(value), y2: y(value), class: value === 0 ? "zero" : "grid" }),
        draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, minus(String(value))));
    }
    for (const t of ticks(first, last, Math.max(2, Math.floor(width / 100)), 1)) {
      svg.append(draw("text", { x: x(t + 0.5), y: base + 26, "text-anchor": "middle" }, String(t)));
    }
    svg.append(draw("text", { x: left - 6, y: 10, "text-anchor": "end", class: "name" }, name));
    for (const [kind, of, value] of state.limits) {
      if (of !== page.measure) continue;
      const [words, color] = LIMITS[kind];
      svg.append(draw("line", { x1: left, x2: left + wide, y1: y(value), y2: y(value), class: "limit", stroke: color, "data-kind": kind, "data-value": value }),
        draw("text", { x: left + 4, y: y(value) - 3, style: `fill:${color}`, class: "small" }, `${words} ${Number(value.toFixed(4))}${options.published ? " (published)" : ""}`));
    }
    const clip = `lazyvos-clip-${Math.random().toString(36).slice(2)}`, inner = draw("g", { "clip-path": `url(#${clip})` });
    svg.append(draw("clipPath", { id: clip }, draw("rect", { x: left, y: 0, width: wide, height: base + 16 })), inner);
    for (const id of objects.length ? objects : (state.now?.objects ?? []).map((object) => object.id)) {
      tables[id] ??= new Float32Array();
      const [curve, band] = lines(id, column, x, y);
      if (band) inner.append(draw("path", { d: band, fill: css(id), "fill-opacity": 0.22, class: "band" }));
      if (curve) inner.append(draw("path", { d: curve, fill: "none", stroke: css(id), "stroke-width": 1.8, "stroke-dasharray": dashOf(id),
        "stroke-linejoin": "round", class: "curve", "data-object": id }));
    }
    const ink = kept.filter(inside).map((t) => `M${x(t + 0.5).toFixed(1)} ${base}v6`).join("");
    if (ink) inner.append(draw("path", { d: ink, class: "kept" }));
    svg.append(draw("line", { x1: left, x2: left + wide, y1: base + 8, y2: base + 8, class: "axis" }));
    const open = (state.now?.objects ?? []).filter((object) => object.asked).map((object) => ["asked", object.id, state.now.t, object.score, object.delta]);
    const paths = {};
    for (const [kind, object, t, score, delta] of [...events, ...open]) {
      if (!inside(t)) continue;
      const value = page.measure === "score" ? score : delta, [shape, , , shift] = MARKS[kind];
      const place = { kind, object, t, x: x(t + 0.5), y: Math.min(top + tall, Math.max(8, y(value ?? low) + (value == null ? -6 : shift))) };
      scale.marks.push(place);
      (paths[`${kind} ${object}`] ??= []).push(`M${place.x.toFixed(1)} ${place.y.toFixed(1)}${shape}`);
    }
    for (const [key, shapes] of Object.entries(paths)) {
      const [kind, object] = key.split(" "), filled = MARKS[kind][1];
      inner.append(draw("path", { d: shapes.join(""), class: "lazyvos-entropy-mark", "data-kind": kind, "data-object": object, "data-count": shapes.length,
        fill: filled ? css(Number(object)) : "var(--lazyvos-paper)", stroke: filled ? "var(--lazyvos-ink)" : css(Number(object)), "stroke-width": filled ? 1 : 2 }));
    }
    for (const [t, kind] of [[options.live ? state.t : null, "now"], [state.look, "here"]]) {
      if (t == null || !inside(t)) continue;
      svg.append(draw("line", { x1: x(t + 0.5), x2: x(t + 0.5), y1: 2, y2: base + 8, class: kind }));
      if (kind === "here") {
        const end = x(t) > width - 90;
        svg.append(draw("text", { x: x(t + 0.5) + (end ? -5 : 5), y: 11, "text-anchor": end ? "end" : "start", class: "here" }, `frame ${t}`));
      }
    }
    plot.replaceChildren(svg);
  }

  function fillLegend() {
    const ids = state.course.objects, left = state.course.left_out;
    const glyph = (shape, filled, color) => draw("svg", { width: 14, height: 14, "aria-hidden": "true" },
      draw("path", { d: `M7 7${shape}`, fill: filled ? color : "none", stroke: color, "stroke-width": filled ? 0.8 : 1.8 }));
    legend.replaceChildren(
      ...ids.map((id) => make("span", {}, draw("svg", { width: 22, height: 14, "aria-hidden": "true" },
        draw("path", { d: "M0 7H22", stroke: css(id), "stroke-width": 2.5, "stroke-dasharray": dashOf(id) })), `${shapeOf(id)} object ${id}`)),
      ...Object.values(MARKS).map(([shape, filled, name]) => make("span", {}, glyph(shape, filled, "currentColor"), name)),
      make("span", {}, glyph("m0-4v8", false, "#0072b2"), "memory write"),
      ...(left ? [make("span", {}, `${left} more marks: zoom in to see them`)] : []));
  }

  function fillPast() {
    past.hidden = state.look == null;
    const bytes = model.get("picture");
    if (bytes !== page.bytes) {
      if (page.url) URL.revokeObjectURL(page.url);
      page.bytes = bytes;
      page.url = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : null;
      if (page.url) picture.src = page.url;
    }
    picture.hidden = !page.url;
    const words = [`frame ${state.facts.t}${state.facts.kept ? ", stored in the memory" : ""}`, ...state.facts.objects.map(sentence)];
    facts.replaceChildren(...words.map((text, i) => make(i ? "div" : "b", {}, text)), ...(state.message ? [make("p", {}, state.message)] : []));
    return words.join("; ");
  }

  function sentence({ id, score, delta, marks }) {
    const numbers = [score == null ? "" : `S ${score.toFixed(2)}`, delta == null ? "" : `ΔS ${signed(delta)}`].filter(Boolean).join(", ");
    const events = Object.entries(MARKS).filter(([kind]) => marks & options.marks[kind]).map(([, [, , name]]) => name);
    return `${shapeOf(id)} object ${id}: ${[numbers, ...events].filter(Boolean).join(", ")}`;
  }

  // What Python says -------------------------------------------------------------------------------------------------

  function refresh() {
    const next = model.get("state");
    if (next.seq === undefined) return;
    const was = state;
    state = next;
    tables = Object.fromEntries(Object.entries(state.course.values).map(([id, view]) =>
      [id, new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength))]));
    if (state.answer >= page.asked) {
      page.waiting = false;
      if (page.next) {
        const [kind, content] = page.next;
        page.next = null;
        ask(kind, content);
      } else {
        page.at = undefined;
      }
    }
    paint();
    if (state.error) complain(state.error);
    else if (was.error) complain("");
    if (state.look !== was.look || state.message !== was.message) {
      tell(state.look == null ? state.message || (options.live ? "back to live" : "") : `${fillPast()} ${state.message}`);
    }
    Object.assign(root.dataset, { seq: state.seq, t: state.t, look: state.look ?? "", answer: state.answer, step: state.course.step });
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
    if (page.url) URL.revokeObjectURL(page.url);
  };
}

export default { render };
