// The page's side of lazyvos_widgets.RoundsView. Python owns the truth: the rounds, the clicks that wait (`state`) and the numbers of every
// frame (`curve`). Frames come one at a time, on demand, as messages; some dozen are kept here, compressed.

const KEEP = 64; // frames kept in the page, compressed
const HELP = "click: this belongs to the object · right or Shift click: this does not · 1–9: pick an object · Z / Shift Z: last click back, again · "
  + "Enter: propagate · X: cancel the round · U / Shift U: undo, redo a whole round · ← →: frame before, after (Shift: ten) · ↑ ↓: clicked frame before, after · "
  + "Home, End: first, last frame · G: suggested frame · Space: play, stop · B: before and after the last round (, and . move the divider) · "
  + "M: masks · S: what the curve shows · Ctrl wheel, + and −: zoom, 0: whole frame, drag: move · Esc: leave";

/** A store of at most `size` things; the one not used for longest goes. */
function store(size) {
  const kept = new Map();
  return {
    get(key) {
      const found = kept.get(key);
      if (found !== undefined) { kept.delete(key); kept.set(key, found); }
      return found;
    },
    set(key, value) {
      kept.delete(key);
      kept.set(key, value);
      if (kept.size > size) kept.delete(kept.keys().next().value);
    },
    clear: () => kept.clear(),
    count: () => kept.size,
  };
}

const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const octets = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function meanOf(curves) {
  const all = Object.values(curves);
  if (all.length < 2) return all[0] ?? new Float32Array();
  return all[0].map((_, t) => {
    const known = all.map((values) => values[t]).filter((value) => !Number.isNaN(value));
    return known.length ? known.reduce((a, b) => a + b) / known.length : NaN;
  });
}

function render({ model, el }) {
  const options = model.get("options"), view = Math.random().toString(36).slice(2);
  let state = model.get("state"), curve = { now: {}, before: {}, present: {}, measures: [] };
  const page = {
    t: state.t ?? 0, version: -1, active: options.objects[0], known: [...options.objects], opacity: options.opacity, masks: true, compare: false, divide: 0.5,
    zoom: 1, left: 0, top: 0, pending: [], lastId: 0, asked: 0, waiting: false, since: 0, playing: false, scrub: null, measure: options.measures[0],
    object: "mean", jump: state.jump, paints: 0, timer: 0,
  };
  const frames = store(KEEP), masks = store(KEEP);
  let layers = { t: null, frame: null, after: null, before: null }, scale = null;

  // Messages ---------------------------------------------------------------------------------------------------------

  const { send, guard, complain, tell, live, wrong } = basics(model);

  const colorOf = (id) => options.colors[(id - 1) % options.colors.length];
  const css = (id) => `rgb(${colorOf(id).join(",")})`;
  const shapeOf = (id) => SHAPES[(id - 1) % SHAPES.length];
  const nameOf = (id) => options.names[id] ?? `object ${id}`;

  // Nodes ------------------------------------------------------------------------------------------------------------

  const button = (text, label, key, call) => make("button", {
    type: "button", title: key ? `${label} (${key})` : label, "aria-label": label,
    onclick: guard((event) => { if (event.detail) root.focus({ preventScroll: true }); return call(event); }), // so that Enter propagates after a mouse click
  }, text);

  const picker = make("div", { class: "lazyvos-rounds-group", role: "group", "aria-label": "object to click" });
  const unclick = button(icon("undo"), "take the last click back", "Z", () => act("unclick"));
  const reclick = button(icon("redo"), "the click again", "Shift Z", () => act("reclick"));
  const run = button("propagate", "propagate the clicks of this round", "Enter", propagate);
  run.classList.add("lazyvos-rounds-run");
  const undo = button("undo round", "undo the last round", "U", () => act("undo"));
  const redo = button("redo round", "redo the round", "Shift U", () => act("redo"));
  const suggest = button("", "go to the suggested frame", "G", () => state.suggested != null && go(state.suggested));
  suggest.classList.add("lazyvos-rounds-suggest");
  const compare = button("before | after", "compare with the masks before the last round", "B", flip);
  const slider = make("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: page.opacity, "aria-label": "opacity of the masks", title: "opacity of the masks",
    oninput: guard(() => { page.opacity = Number(slider.value); redraw(); }),
  });
  const helper = button("?", "keys", "?", () => { help.hidden = !help.hidden; });
  const meter = make("progress", { max: 1, value: 0 }), meterText = make("span");
  const running = make("div", { class: "lazyvos-rounds-running", hidden: true }, meter, meterText, button("cancel", "cancel the round", "X", () => send("cancel")));
  const waitText = make("span");
  const waitHere = button("go there", "go to the frame of the clicks", "", () => go(state.pending.frame));
  const waits = make("div", { class: "lazyvos-rounds-waits", hidden: true }, waitText, waitHere, button("discard", "discard the clicks that wait", "", () => act("discard")));
  const canvas = make("canvas", { class: "lazyvos-rounds-canvas", role: "img", "aria-label": "video frame with masks" });
  const hint = make("div", { class: "lazyvos-rounds-hint", hidden: true });
  const sides = [make("div", { class: "lazyvos-rounds-side", hidden: true }, "before"), make("div", { class: "lazyvos-rounds-side", hidden: true }, "after")];
  const divider = make("div", {
    class: "lazyvos-rounds-divider", hidden: true, tabindex: 0, role: "slider", "aria-label": "divider between before and after", "aria-valuemin": 0, "aria-valuemax": 100,
  });
  const stage = make("div", { class: "lazyvos-rounds-stage" }, canvas, ...sides, divider, hint);
  const measures = make("select", { "aria-label": "what the curve shows", title: "what the curve shows (S)", onchange: guard(() => { page.measure = measures.value; fillPlot(); fillStatus(); }) },
    ...options.measures.map((name) => make("option", { value: name }, name)));
  const ofObject = make("select", { "aria-label": "object of the curve", onchange: guard(() => { page.object = ofObject.value; fillPlot(); fillStatus(); }) });
  const play = button("▶", "play", "Space", toggle);
  const status = make("span", { class: "lazyvos-rounds-status" });
  const plot = make("div", { class: "lazyvos-rounds-plot" });
  const legend = make("div", { class: "lazyvos-rounds-legend" });
  const tip = make("div", { class: "lazyvos-tip lazyvos-rounds-tip", hidden: true });
  const help = make("p", { class: "lazyvos-rounds-help", hidden: true }, HELP);
  const root = make("div", {
    class: "lazyvos lazyvos-rounds", tabindex: 0, role: "group", "data-lm-suppress-shortcuts": "true", "aria-label": "segment a clip in rounds of clicks; press ? for the keys",
  }, make("div", { class: "lazyvos-rounds-bar" }, picker, unclick, reclick, run, make("span", { class: "lazyvos-rounds-gap" }), undo, redo, compare, slider, helper),
  help, stage, wrong, running, waits, make("div", { class: "lazyvos-rounds-bar below" }, play, status, suggest, measures, ofObject), plot, legend, tip, live);
  el.append(root); // what comes and goes lies below the picture, which must not move between two clicks

  // What a person does -----------------------------------------------------------------------------------------------

  function nextId() {
    page.lastId = Math.max(page.lastId + 1, Date.now());
    return page.lastId;
  }

  const act = (kind) => send(kind, { id: nextId() });

  function propagate() {
    stop();
    act("run");
  }

  /** Show frame `t`: from what the page keeps, or from Python; while an answer is under way only the newest wish waits. */
  function go(t) {
    page.t = within(t, 0, state.length - 1);
    movePlot();
    const ready = frames.get(page.t) && (masks.get(page.t) || !state.rounds.length);
    if (ready) {
      if (!page.waiting) send("at", { t: page.t });
      return show(page.t);
    }
    if (!page.waiting) ask();
    return undefined;
  }

  function ask() {
    page.waiting = true;
    page.since = Date.now();
    send("look", { t: page.t, view, id: ++page.asked, have: Boolean(frames.get(page.t)) });
  }

  function step(by) {
    stop();
    go(page.t + by);
  }

  function toClicked(by) {
    stop();
    const all = [...new Set(state.rounds.map((round) => round.frame))].sort((a, b) => (a - b) * by);
    const found = all.find((t) => (t - page.t) * by > 0);
    if (found == null) tell(`There is no clicked frame ${by > 0 ? "after" : "before"} this one.`);
    else go(found);
  }

  function toggle() {
    if (page.playing) return stop();
    page.playing = true;
    fillPlay();
    return go(page.t + 1 < state.length ? page.t + 1 : 0);
  }

  function stop() {
    page.playing = false;
    clearTimeout(page.timer);
    fillPlay();
  }

  function fillPlay() {
    play.textContent = page.playing ? "■" : "▶";
    play.setAttribute("aria-label", page.playing ? "stop" : "play");
  }

  function pick(id) {
    if (!page.known.includes(id)) page.known = [...page.known, id].sort((a, b) => a - b);
    page.active = id;
    fillPicker();
  }

  function flip() {
    if (!state.rounds.length) return tell("There is no round to compare with.");
    page.compare = !page.compare;
    compare.setAttribute("aria-pressed", page.compare);
    return show(page.t);
  }

  function divide(share) {
    page.divide = within(share, 0, 1);
    redraw();
  }

  function click(x, y, positive) {
    if (layers.t == null) return undefined;
    if (state.busy) return tell(`The ${state.busy} is still running: wait for it, or cancel it.`);
    const made = { id: nextId(), t: layers.t, x, y, object: page.active, positive };
    if (state.pending.frame == null || state.pending.frame === made.t) page.pending.push(made);
    stop();
    redraw();
    return send("click", made);
  }

  const { scaleNow, zoom } = hand({ canvas, stage, root, page, size: () => state.size, guard, redraw, click });

  divider.addEventListener("pointerdown", guard((event) => {
    event.preventDefault();
    event.stopPropagation();
    divider.focus({ preventScroll: true });
    divider.setPointerCapture(event.pointerId);
  }));
  divider.addEventListener("pointermove", guard((event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = canvas.getBoundingClientRect();
    divide((event.clientX - box.left) / box.width);
  }));

  const frameAt = (event) => within(Math.floor((event.clientX - plot.getBoundingClientRect().left - scale.left) / scale.wide * state.length), 0, state.length - 1);

  plot.addEventListener("pointerdown", guard((event) => {
    if (event.button || !scale) return;
    event.preventDefault();
    root.focus({ preventScroll: true });
    plot.setPointerCapture(event.pointerId);
    page.scrub = event.clientX;
    stop();
    const round = event.target.closest("g.round"); // a mark leads to exactly its frame
    go(round ? Number(round.dataset.frame) : frameAt(event));
  }));
  plot.addEventListener("pointermove", guard((event) => {
    if (!scale) return;
    if (page.scrub != null && Math.abs(event.clientX - page.scrub) >= 1) {
      page.scrub = event.clientX;
      go(frameAt(event));
    }
    point(event);
  }));
  for (const kind of ["pointerup", "pointercancel"]) plot.addEventListener(kind, () => { page.scrub = null; });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });

  function point(event) {
    const t = frameAt(event), box = root.getBoundingClientRect();
    tip.textContent = wordsOf(t);
    tip.hidden = false;
    tip.style.top = `${event.clientY - box.top + 16}px`;
    tip.style.left = `${within(event.clientX - box.left + 12, 4, Math.max(4, box.width - tip.offsetWidth - 8))}px`;
  }

  const KEYS = {
    Enter: propagate, z: () => act("unclick"), Z: () => act("reclick"), u: () => act("undo"), U: () => act("redo"), x: () => send("cancel"), " ": toggle,
    g: () => { stop(); if (state.suggested != null) go(state.suggested); }, b: flip, m: () => { page.masks = !page.masks; redraw(); },
    s: () => { page.measure = options.measures[(options.measures.indexOf(page.measure) + 1) % options.measures.length]; measures.value = page.measure; fillPlot(); fillStatus(); },
    ",": () => divide(page.divide - 0.05), ".": () => divide(page.divide + 0.05), "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(0),
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1), ArrowRight: (event) => step(event.shiftKey ? 10 : 1), ArrowUp: () => toClicked(-1), ArrowDown: () => toClicked(1),
    Home: () => step(-state.length), End: () => step(state.length), "?": () => { help.hidden = !help.hidden; },
    Escape: () => { document.activeElement?.blur(); root.closest(".jp-Notebook")?.focus({ preventScroll: true }); },
  };
  for (const key of "xgbms") KEYS[key.toUpperCase()] = KEYS[key];

  root.addEventListener("keydown", guard((event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab" || state.seq === undefined) return;
    const control = event.target.closest("button, input, select"), arrow = event.key.startsWith("Arrow");
    if (control && event.key !== "Escape" && (control.tagName === "SELECT" || event.key === " " || event.key === "Enter" || (control.type === "range" && arrow))) return;
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : null;
    let call = digit ? () => pick(digit) : KEYS[event.key];
    if (event.target === divider && (event.key === "ArrowLeft" || event.key === "ArrowRight")) call = () => divide(page.divide + (event.key === "ArrowLeft" ? -0.02 : 0.02));
    if (!call) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat && !arrow && !",.+-=".includes(event.key)) return; // a key held down runs one round
    call(event);
  }));

  // The picture ------------------------------------------------------------------------------------------------------

  /** Decode frame `t`, which is kept here, and paint it unless another one is wanted by now. */
  async function show(t) {
    const token = ++page.paints, bytes = frames.get(t), parts = masks.get(t) ?? {}, version = page.version;
    const both = page.compare && state.rounds.length > 0;
    const [frame, after, before] = await Promise.all([bitmap(bytes, "image/jpeg"), bitmap(parts.after, "image/png"), both ? bitmap(parts.before, "image/png") : null]);
    if (token < page.paints || version !== page.version) return;
    layers = { t, frame, after: paintLabels(after, colorOf), before: both ? paintLabels(before, colorOf) : null };
    redraw();
    fillStatus();
    Object.assign(root.dataset, { t, kept: frames.count(), shown: version });
    if (page.playing && t === page.t) {
      clearTimeout(page.timer);
      page.timer = setTimeout(guard(() => (t + 1 < state.length ? go(t + 1) : stop())), 1000 / Math.min(state.fps || 25, 30));
    }
  }

  const received = guard((message, buffers) => {
    if (message?.view !== view || (message.kind !== "picture" && message.kind !== "lost")) return;
    page.waiting = false;
    if (hint.dataset.late) {
      hint.dataset.late = "";
      fillHint();
    }
    if (message.kind === "picture") {
      const [frame, after, before] = buffers;
      if (frame.byteLength) frames.set(message.t, frame);
      if (message.version === page.version) masks.set(message.t, { after, before });
      if (message.t === page.t && message.version === page.version) show(page.t);
      else go(page.t);
    } else {
      stop();
    }
  });

  function fit(node, width, height) {
    const ratio = window.devicePixelRatio || 1, w = Math.round(width * ratio), h = Math.round(height * ratio);
    node.style.width = `${width}px`;
    node.style.height = `${height}px`;
    if (node.width !== w || node.height !== h) Object.assign(node, { width: w, height: h });
    const context = node.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  let frameRequest = 0;
  function redraw() {
    if (!frameRequest) frameRequest = requestAnimationFrame(guard(() => { frameRequest = 0; paint(); }));
  }

  function paint() {
    if (!layers.frame || !stage.clientWidth) return;
    const [height, width] = state.size, wide = Math.min(stage.clientWidth, Math.max(240, window.innerHeight * 0.68) * width / height), tall = wide * height / width;
    const context = fit(canvas, wide, tall), factor = scaleNow(), at = (x, y) => [(x + 0.5 - page.left) * factor, (y + 0.5 - page.top) * factor];
    const both = page.compare && Boolean(layers.before), middle = page.divide * wide;
    const inFrame = (what) => {
      context.save();
      context.scale(factor, factor);
      context.translate(-page.left, -page.top);
      context.imageSmoothingEnabled = factor < 6;
      what();
      context.restore();
    };
    const layer = (picture, alpha) => { context.globalAlpha = alpha; context.drawImage(picture, 0, 0, width, height); context.globalAlpha = 1; };
    const masked = (labels, from, to) => {
      if (!page.masks || !labels) return;
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, tall);
      context.clip();
      inFrame(() => { layer(labels.fill, page.opacity); layer(labels.edge, page.opacity > 0 ? 1 : 0); });
      context.restore();
    };
    inFrame(() => layer(layers.frame, 1));
    if (both) masked(layers.before, 0, middle);
    masked(layers.after, both ? middle : 0, wide);
    for (const round of state.rounds) if (round.frame === layers.t) for (const item of round.clicks) marker(context, ...at(item[0], item[1]), item[2], item[3], "done");
    if (state.pending.frame === layers.t) for (const item of state.pending.clicks) marker(context, ...at(item[0], item[1]), item[2], item[3], "");
    for (const item of page.pending) if (item.t === layers.t) marker(context, ...at(item.x, item.y), item.object, item.positive, "sent");
    const left = canvas.offsetLeft;
    divider.hidden = sides[0].hidden = sides[1].hidden = !both;
    divider.style.left = `${left + middle - 12}px`;
    divider.style.height = `${tall}px`;
    divider.setAttribute("aria-valuenow", Math.round(100 * page.divide));
    sides[0].style.left = `${left + 6}px`;
    sides[1].style.right = `${stage.clientWidth - left - wide + 6}px`;
  }

  /** A click: + in a disc or − in a square; those of earlier rounds are small, one that Python has not taken yet is dashed. */
  function marker(context, x, y, object, positive, kind) {
    const radius = kind === "done" ? 5 : 9, arm = radius / 2;
    context.beginPath();
    if (positive) context.arc(x, y, radius, 0, 2 * Math.PI);
    else context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
    context.fillStyle = css(object);
    context.globalAlpha = kind ? 0.6 : 1;
    context.fill();
    context.setLineDash(kind === "sent" ? [3, 3] : []);
    const strokes = (...pens) => { for (const [color, wide] of pens) { context.strokeStyle = color; context.lineWidth = wide; context.stroke(); } };
    strokes(["#000", kind === "done" ? 2.5 : 4], ["#fff", kind === "done" ? 1.2 : 2]);
    context.setLineDash([]);
    context.globalAlpha = 1;
    context.beginPath();
    context.moveTo(x - arm, y); context.lineTo(x + arm, y);
    if (positive) { context.moveTo(x, y - arm); context.lineTo(x, y + arm); }
    strokes(["#000", kind === "done" ? 2.5 : 4.5], ["#fff", kind === "done" ? 1.2 : 2.5]);
  }

  // The timeline -----------------------------------------------------------------------------------------------------

  const isQuality = () => page.measure !== "uncertainty";

  /** The curves of the chosen measure now, or before the last round. */
  const chosen = (when) => curve[when][page.measure] ?? {};

  function bold(when) {
    const all = chosen(when);
    return page.object === "mean" ? meanOf(all) : all[page.object] ?? new Float32Array();
  }

  function line(values, x, y) {
    let path = "", pen = false;
    values.forEach((value, t) => {
      if (Number.isNaN(value)) { pen = false; return; }
      const alone = !pen && (t + 1 === values.length || Number.isNaN(values[t + 1]));
      path += `${pen ? "L" : "M"}${x(t + 0.5).toFixed(1)} ${y(value).toFixed(1)}${alone ? "h1" : ""}`;
      pen = true;
    });
    return path;
  }

  function fillPlot() {
    const width = Math.max(280, plot.clientWidth), left = 40, wide = width - left - 8, tall = 96, lane = 7, ids = Object.keys(curve.present).map(Number);
    const lanes = 16 + tall + 6, base = lanes + ids.length * lane, all = chosen("now"), now = bold("now"), was = bold("before");
    const top = isQuality() ? 1 : Math.max(0.05, ...[...Object.values(all), was].flatMap((values) => [...values].filter((v) => !Number.isNaN(v)))) * 1.08;
    const x = (t) => left + t / state.length * wide, y = (value) => 16 + (1 - value / top) * tall;
    scale = { left, wide, base };
    const svg = draw("svg", { width, height: base + 34, role: "img", class: "lazyvos-rounds-curve", "data-measure": page.measure,
      "aria-label": `${page.measure} over ${state.length} frames, ${state.rounds.length} rounds` });
    for (let i = 0; i <= 2; i++) {
      const value = top * i / 2;
      svg.append(draw("line", { x1: left, x2: left + wide, y1: y(value), y2: y(value), class: "grid" }),
        draw("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(2)))));
    }
    const gap = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((k) => k / state.length * wide >= 48) ?? 20000;
    for (let t = 0; t < state.length; t += gap) svg.append(draw("text", { x: x(t + 0.5), y: base + 31, "text-anchor": "middle", class: "soft" }, String(t)));
    const last = state.rounds.at(-1);
    if (last) svg.append(draw("rect", { x: x(last.bounds[0]), width: x(last.bounds[1] + 1) - x(last.bounds[0]), y: 16, height: base - 16, class: "span" }));
    ids.forEach((id, row) => {
      const seen = curve.present[id];
      let path = "";
      for (let t = 0, from = -1; t <= seen.length; t++) {
        if (seen[t] && from < 0) from = t;
        if (!seen[t] && from >= 0) { path += `M${x(from).toFixed(1)} ${lanes + row * lane}H${x(t).toFixed(1)}`; from = -1; }
      }
      svg.append(draw("path", { d: path, stroke: css(id), "stroke-width": lane - 2, class: "lane", "data-object": id }));
    });
    if (was.length) svg.append(draw("path", { d: line(was, x, y), class: "was" }));
    if (page.object === "mean") for (const [id, values] of Object.entries(all)) svg.append(draw("path", { d: line(values, x, y), stroke: css(Number(id)), class: "one", "data-object": id }));
    const alone = Object.keys(all).length === 1 ? Object.keys(all)[0] : page.object;
    if (now.length) svg.append(draw("path", { d: line(now, x, y), stroke: alone === "mean" ? "currentColor" : css(Number(alone)), class: "main", "data-object": page.object }));
    svg.append(draw("line", { x1: left, x2: left + wide, y1: base + 1, y2: base + 1, class: "axis" }));
    const at = {};
    for (const round of state.rounds) (at[round.frame] ??= []).push(round.number);
    for (const [t, numbers] of Object.entries(at)) {
      const middle = x(Number(t) + 0.5), text = numbers.join(","), newest = numbers.includes(last.number);
      svg.append(draw("g", { class: `round${newest ? " newest" : ""}`, "data-frame": t, "data-round": text },
        draw("line", { x1: middle, x2: middle, y1: 16, y2: base + 2 }),
        draw("rect", { x: middle - 5 - 3 * text.length, y: base + 3, width: 10 + 6 * text.length, height: 15, rx: 7 }),
        draw("text", { x: middle, y: base + 14, "text-anchor": "middle" }, text)));
    }
    if (state.suggested != null) {
      const middle = x(state.suggested + 0.5);
      svg.append(draw("g", { class: "suggested", "data-frame": state.suggested }, draw("line", { x1: middle, x2: middle, y1: 12, y2: base + 2 }), draw("path", { d: `M${middle} 13l-6-9h12z` })));
    }
    if (state.pending.frame != null) {
      const middle = x(state.pending.frame + 0.5);
      svg.append(draw("path", { d: `M${middle} ${base + 3}l7 7l-7 7l-7-7z`, class: "pending", "data-frame": state.pending.frame }));
    }
    svg.append(draw("line", { y1: 0, y2: base + 4, class: "here" }), draw("text", { y: 10, class: "here" }));
    plot.replaceChildren(svg);
    movePlot();
    fillLegend(ids, was.length > 0);
  }

  /** Only the line of the frame that is wanted moves while one scrubs. */
  function movePlot() {
    if (!scale) return;
    const middle = scale.left + (page.t + 0.5) / state.length * scale.wide, end = middle > scale.left + scale.wide - 80;
    const [mark, text] = plot.querySelectorAll(".here");
    for (const name of ["x1", "x2"]) mark.setAttribute(name, middle);
    text.setAttribute("x", middle + (end ? -5 : 5));
    text.setAttribute("text-anchor", end ? "end" : "start");
    text.textContent = `frame ${page.t}`;
  }

  function fillLegend(ids, was) {
    const scoring = !curve.scored && options.measures.length > 1 ? [make("b", {}, "measuring the quality …")] : [];
    const glyph = (...children) => draw("svg", { width: 16, height: 14, "aria-hidden": "true" }, ...children);
    legend.replaceChildren(...scoring, ...ids.map((id) => make("span", {}, make("span", { class: "lazyvos-shape", style: `color:${css(id)}` }, shapeOf(id)), nameOf(id))),
      make("span", {}, glyph(draw("rect", { x: 0, y: 1, width: 16, height: 13, rx: 6, fill: "#d55e00" })), "a round's frame"),
      make("span", {}, glyph(draw("path", { d: "M8 12l-6-9h12z", fill: "#0072b2" })), "suggested"),
      make("span", {}, glyph(draw("rect", { width: 16, height: 14, class: "span" })), "computed in the last round"),
      ...(was ? [make("span", {}, glyph(draw("path", { d: "M0 7h16", class: "was" })), "before it")] : []));
  }

  // Words ------------------------------------------------------------------------------------------------------------

  function wordsOf(t) {
    const numbers = state.rounds.filter((round) => round.frame === t).map((round) => `round ${round.number}`);
    const value = bold("now")[t], was = bold("before")[t], name = page.object === "mean" ? "" : ` of ${nameOf(Number(page.object))}`;
    const number = value == null || Number.isNaN(value) ? "" : `${page.measure}${name} ${value.toFixed(3)}${was == null || Number.isNaN(was) || was === value ? "" : ` (was ${was.toFixed(3)})`}`;
    return [`frame ${t}`, ...numbers, number, t === state.suggested ? "suggested" : ""].filter(Boolean).join(" · ");
  }

  function fillStatus() {
    status.textContent = `${wordsOf(layers.t ?? page.t)} · ${state.length} frames, ${state.rounds.length} round${state.rounds.length === 1 ? "" : "s"}`;
  }

  function fillHint() {
    const text = hint.dataset.late ? "Waiting for Python … is a cell running?" : !options.clickable ? "" : state.busy || state.rounds.length || state.pending.clicks.length
      ? "" : "Click on the object, then press Enter.";
    hint.textContent = text;
    hint.hidden = !text;
  }

  function fillPicker() {
    const ids = [...new Set([...page.known, ...state.objects])].sort((a, b) => a - b), focused = picker.contains(document.activeElement) ? document.activeElement.dataset.object : null;
    picker.replaceChildren(...ids.map((id) => {
      const node = button("", `pick ${nameOf(id)}`, id < 10 ? String(id) : "", () => pick(id));
      node.append(make("span", { class: "lazyvos-shape", style: `color:${css(id)}` }, shapeOf(id)), ` ${options.names[id] ?? id}`);
      node.dataset.object = id;
      node.setAttribute("aria-pressed", id === page.active);
      return node;
    }), button("+", "add an object", "", () => pick(Math.max(...ids) + 1)));
    if (focused) picker.querySelector(`[data-object="${focused}"]`)?.focus();
  }

  function fillObjects() {
    const ids = Object.keys(chosen("now")), names = ids.length > 1 ? ["mean", ...ids] : ["mean"];
    if (!names.includes(page.object)) page.object = "mean";
    ofObject.replaceChildren(...names.map((name) => make("option", { value: name }, name === "mean" ? "mean of all objects" : nameOf(Number(name)))));
    ofObject.value = page.object;
    ofObject.hidden = names.length < 2;
  }

  function fillBar() {
    const busy = Boolean(state.busy), count = state.pending.clicks.length;
    unclick.disabled = busy || !count;
    reclick.disabled = busy || !state.pending.taken;
    run.disabled = busy || !count;
    undo.disabled = busy || !state.undo;
    redo.disabled = busy || !state.redo;
    compare.disabled = !state.rounds.length;
    suggest.hidden = state.suggested == null;
    suggest.textContent = `suggested: frame ${state.suggested}`;
    waits.hidden = busy || !count;
    waitText.textContent = `${count} click${count === 1 ? "" : "s"} wait${count === 1 ? "s" : ""} on frame ${state.pending.frame}`;
    waitHere.hidden = state.pending.frame === page.t;
    running.hidden = !busy;
    sides[0].textContent = `before round ${state.rounds.length}`;
    sides[1].textContent = `after round ${state.rounds.length}`;
  }

  // What Python says -------------------------------------------------------------------------------------------------

  function refresh() {
    const next = model.get("state");
    if (next.seq === undefined) return;
    const was = state;
    state = next;
    page.pending = page.pending.filter((item) => item.id > state.answer);
    if (!state.rounds.length && page.compare) flipOff();
    if (state.version !== page.version) {
      page.version = state.version;
      masks.clear();
      go(state.jump !== page.jump ? state.t : page.t);
    } else if (state.jump !== page.jump) {
      stop();
      go(state.t);
    }
    page.jump = state.jump;
    fillBar();
    fillPicker();
    fillHint();
    fillPlot();
    fillStatus();
    redraw();
    if (state.error) complain(state.error);
    else if (was.error) complain("");
    if (state.message !== was.message || state.seq === 1) tell(state.message);
    if (state.message && state.message !== was.message) notice(state.message);
    Object.assign(root.dataset, { seq: state.seq, round: state.rounds.length, pending: state.pending.clicks.length, busy: state.busy ?? "", answer: state.answer });
  }

  function flipOff() {
    page.compare = false;
    compare.setAttribute("aria-pressed", false);
  }

  /** What has to be said, for a moment, on the picture. */
  function notice(text) {
    hint.textContent = text;
    hint.hidden = false;
    clearTimeout(page.notice);
    page.notice = setTimeout(guard(fillHint), 4000);
  }

  function refreshCurve() {
    const raw = model.get("curve");
    if (raw.now === undefined || state.seq === undefined) return;
    const each = (curves, treat) => Object.fromEntries(Object.entries(curves ?? {}).map(([id, view_]) => [id, treat(view_)]));
    const all = (when) => Object.fromEntries(Object.entries(raw[when]).map(([name, curves]) => [name, each(curves, floats)]));
    curve = { scored: raw.scored, now: all("now"), before: all("before"), present: each(raw.present, octets) };
    fillObjects();
    fillPlot();
    fillStatus();
    Object.assign(root.dataset, { scored: raw.scored, curve: raw.version });
  }

  function refreshProgress() {
    const { done = 0, total = 0 } = model.get("progress");
    if (total) Object.assign(meter, { max: total, value: done });
    else meter.removeAttribute("value");
    meterText.textContent = total ? `${done} of ${total} frames` : "the clicks become masks …";
    root.dataset.done = done;
  }

  const heard = [["change:state", guard(refresh)], ["change:curve", guard(refreshCurve)], ["change:progress", guard(refreshProgress)], ["msg:custom", received]];
  for (const [name, call] of heard) model.on(name, call);
  let wide = 0;
  const watcher = new ResizeObserver(guard(() => {
    redraw();
    if (root.clientWidth === wide || state.seq === undefined) return;
    wide = root.clientWidth;
    tip.hidden = true;
    fillPlot();
  }));
  watcher.observe(root);
  const tick = setInterval(guard(() => {
    const late = page.waiting && Date.now() - page.since > 4000 ? "1" : "";
    if (late !== (hint.dataset.late ?? "")) {
      hint.dataset.late = late;
      fillHint();
    }
  }), 1000);
  for (const [, call] of heard.slice(0, 3)) call();
  return () => {
    for (const [name, call] of heard) model.off(name, call);
    watcher.disconnect();
    clearInterval(tick);
    clearTimeout(page.timer);
    clearTimeout(page.notice);
    cancelAnimationFrame(frameRequest);
  };
}

export default { render };
