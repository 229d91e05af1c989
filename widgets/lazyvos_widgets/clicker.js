// The page's side of lazyvos_widgets.Clicker. Python owns the truth: the current frame (JPEG), its label map and entropy
// map (PNG) and `state`. Colours, opacity, zoom and the active object live here.

const HEAT = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
const MARKS = { asked: 1, pseudo: 2, clicked: 4, kept: 8 };
const LENS = 232; // side of the enlarged region on the screen, in pixels
const HELP = "click: this belongs to the object · right or Shift click: this does not · 1–9: pick an object · "
  + "Z / Shift Z: undo, redo · →: next frame (Shift: ten) · ←: look back · Space: play, pause · N: skip a request · "
  + "C: the enlarged region (arrows move the cross, Shift: by ten; Enter: click, Shift Enter: negative; X: enlarge more) · "
  + "L: back to live · E: entropy · M: masks · Ctrl wheel, + and −: zoom, 0: whole frame, drag: move · Esc: leave";

function paintHeat(image) {
  const data = pixels(image);
  for (let i = 0; i < data.data.length; i += 4) {
    const level = data.data[i] / 255, place = level * (HEAT.length - 1), step = Math.min(Math.floor(place), HEAT.length - 2);
    for (let c = 0; c < 3; c++) {
      data.data[i + c] = HEAT[step][c] + (HEAT[step + 1][c] - HEAT[step][c]) * (place - step);
    }
    data.data[i + 3] = 255 * Math.sqrt(level);
  }
  return canvasOf(data);
}

function render({ model, el }) {
  const options = model.get("options");
  const page = {
    active: options.objects[0], known: [...options.objects], opacity: options.opacity, entropy: options.entropy, heat: options.entropy_opacity, masks: true,
    zoom: 1, left: 0, top: 0, pending: [], lastId: 0, token: 0, painted: 0, times: 3, cross: null,
  };
  let state = model.get("state");
  const layers = { frame: null, labels: null, heat: null, region: null, sources: {} };

  // Messages ---------------------------------------------------------------------------------------------------------

  const { send, guard, button, complain, tell, live, wrong } = basics(model);

  const colorOf = (id) => options.colors[(id - 1) % options.colors.length];
  const css = (id) => `rgb(${colorOf(id).join(",")})`;
  const shapeOf = (id) => SHAPES[(id - 1) % SHAPES.length];
  const nameOf = (id) => options.names[id] ?? `object ${id}`;

  // Nodes ------------------------------------------------------------------------------------------------------------

  const picker = make("div", { class: "lazyvos-picker", role: "group", "aria-label": "object to click" });
  const undo = button(icon("undo"), "undo the last click", "Z", () => send("undo"));
  const redo = button(icon("redo"), "redo", "Shift Z", () => send("redo"));
  const play = button(icon("play"), "play", "Space", toggle);
  const step = button(icon("step"), "next frame", "→", () => send("advance", { frames: 1 }));
  const heat = button("entropy", "show where the tracker is unsure", "E", () => flip("entropy"));
  const slider = make("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: page.opacity, "aria-label": "opacity of the masks",
    title: "opacity of the masks", oninput: guard(() => { page.opacity = Number(slider.value); redraw(); }),
  });
  const heatSlider = make("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: page.heat, "aria-label": "opacity of the entropy", class: "lazyvos-heat",
    title: "opacity of the entropy", oninput: guard(() => { page.heat = Number(heatSlider.value); if (page.entropy) redraw(); else flip("entropy"); }),
  });
  const helper = button("?", "keys", "", () => { help.hidden = !help.hidden; });
  const bar = make("div", { class: "lazyvos-bar" }, picker, make("span", { class: "lazyvos-gap" }),
    undo, redo, play, step, slider, heat, heatSlider, helper);
  const canvas = make("canvas", { class: "lazyvos-canvas", role: "img", "aria-label": "video frame with masks" });
  const hint = make("div", { class: "lazyvos-hint" });
  const toLive = button("looking back · back to live", "back to live", "L", () => send("look", { t: null }));
  toLive.classList.add("lazyvos-back");
  const stage = make("div", { class: "lazyvos-stage" }, canvas, hint, toLive);
  const lens = make("canvas", { class: "lazyvos-lens", role: "application", tabindex: 0,
    "aria-label": "the uncertain region, enlarged: click in it, or move the cross with the arrow keys and press Enter" });
  const question = make("p");
  const answer = button("skip", "skip this request", "N", () => skip());
  const larger = button("3×", "enlarge more", "X", enlarge);
  const card = make("div", { class: "lazyvos-card", role: "region", "aria-label": "request", hidden: true },
    lens, make("div", {}, question, answer, " ", larger));
  const time = make("canvas", { class: "lazyvos-time", role: "img", "aria-label": "timeline",
    title: "click: look back at a frame, or track up to one that is still to come" });
  const status = make("span", { class: "lazyvos-status" });
  const legend = make("span", { class: "lazyvos-legend" },
    "▲ request  ◇ pseudo-correction  ● click  ❘ memory");
  const help = make("div", { class: "lazyvos-help", hidden: true }, HELP);
  const root = make("div", {
    class: "lazyvos lazyvos-clicker", tabindex: 0, role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": "click to segment; press ? for the keys",
  }, bar, help, wrong, stage, card, time, make("div", { class: "lazyvos-foot" }, status, legend), live);
  el.append(root);

  // What a person does -----------------------------------------------------------------------------------------------

  function pick(id) {
    if (!page.known.includes(id)) page.known = [...page.known, id].sort((a, b) => a - b);
    page.active = id;
    fillPicker();
    redraw();
  }

  function toggle() {
    send(state.playing ? "pause" : "play");
  }

  function flip(what) {
    page[what] = !page[what];
    if (what === "entropy") {
      heat.setAttribute("aria-pressed", page.entropy);
      send("entropy", { on: page.entropy });
    }
    redraw();
  }

  function skip() {
    const open = state.requests[0];
    if (open) send("skip", { object: open.object });
  }

  function click(x, y, positive, object = page.active) {
    if (state.look != null) return send("look", { t: null });
    if (state.playing && !state.live) {
      tell("Paused. Click again to correct this frame.");
      return send("pause");
    }
    page.lastId = Math.max(page.lastId + 1, Date.now());
    const made = { id: page.lastId, t: state.t, x, y, object, positive };
    page.pending.push(made);
    redraw();
    send("click", made);
  }

  function enlarge() {
    page.times = page.times >= 4 ? 2 : page.times + 1;
    larger.textContent = `${page.times}×`;
    redraw();
  }

  /** The part of the frame that the lens shows: its left and top, its side, and screen pixels per pixel of the frame. */
  function region() {
    const [x, y] = state.requests[0].at, [height, width] = state.size, side = LENS;
    const fit = (canvas.clientWidth || width) / width, reach = Math.min(height, width, Math.max(24, side / (page.times * fit)));
    const clamp = (value, most) => Math.min(Math.max(0, value), Math.max(0, most));
    return { left: clamp(x + 0.5 - reach / 2, width - reach), top: clamp(y + 0.5 - reach / 2, height - reach), reach, scale: side / reach };
  }

  /** A click in the lens speaks of the object that is asked about. */
  function answerAt(x, y, positive) {
    const request = state.requests[0];
    if (card.hidden || !request?.at) return;
    if (page.active !== request.object) pick(request.object);
    click(Math.min(Math.max(0, x), state.size[1] - 1), Math.min(Math.max(0, y), state.size[0] - 1), positive, request.object);
  }

  lens.addEventListener("pointerup", guard((event) => {
    if (event.button !== 0 && event.button !== 2) return;
    const box = lens.getBoundingClientRect(), part = region();
    answerAt(Math.floor(part.left + (event.clientX - box.left) / part.scale), Math.floor(part.top + (event.clientY - box.top) / part.scale),
      !(event.button === 2 || event.shiftKey || event.ctrlKey));
  }));
  lens.addEventListener("contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
  for (const kind of ["focus", "blur"]) lens.addEventListener(kind, guard(redraw));

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  /** Keys while the lens has the focus; true where one was used. */
  function aim(event) {
    const part = region(), by = event.shiftKey ? 10 : 1, inside = (value, low) => Math.round(Math.min(Math.max(Math.ceil(low), value), Math.floor(low + part.reach - 1)));
    page.cross ??= state.requests[0].at.map(Math.floor);
    if (ARROWS[event.key]) {
      const [dx, dy] = ARROWS[event.key];
      page.cross = [inside(page.cross[0] + dx * by, part.left), inside(page.cross[1] + dy * by, part.top)];
      tell(`cross at ${page.cross.join(", ")}`);
      redraw();
    } else if (event.key === "Enter") {
      answerAt(...page.cross, !event.shiftKey);
    } else {
      return false;
    }
    return true;
  }

  const { scaleNow, zoom } = hand({ canvas, stage, root, page, size: () => state.size, guard, redraw, click });

  time.addEventListener("click", guard((event) => {
    root.focus({ preventScroll: true });
    const box = time.getBoundingClientRect(), span = frames();
    const t = Math.floor((event.clientX - box.left) / box.width * span);
    if (t > state.t) send("play", { until: Math.min(t, span - 1) });
    else send("look", { t: t === state.t ? null : t });
  }));

  const KEYS = {
    z: () => send("undo"), Z: () => send("redo"), n: skip, N: skip, e: () => flip("entropy"), E: () => flip("entropy"), m: () => flip("masks"),
    " ": toggle, "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(0),
    "?": () => { help.hidden = !help.hidden; }, x: enlarge, X: enlarge, c: () => !card.hidden && lens.focus(), C: () => !card.hidden && lens.focus(),
    l: () => send("look", { t: null }), L: () => send("look", { t: null }),
    ArrowRight: (event) => (state.look != null ? look(event.shiftKey ? 10 : 1) : send("advance", { frames: event.shiftKey ? 10 : 1 })),
    ArrowLeft: (event) => look(event.shiftKey ? -10 : -1),
    Escape: () => { document.activeElement?.blur(); root.closest(".jp-Notebook")?.focus({ preventScroll: true }); },
  };

  function look(by) {
    const t = (state.look ?? state.t) + by;
    send("look", { t: t >= state.t ? null : Math.max(0, t) });
  }

  root.addEventListener("keydown", guard((event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
    const control = event.target.closest("button, input");
    if (control && (event.key === " " || event.key === "Enter" || (control?.type === "range" && event.key.startsWith("Arrow")))) return;
    if (event.target === lens && !card.hidden && state.requests[0]?.at && aim(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : null;
    const call = digit ? () => pick(digit) : KEYS[event.key];
    if (!call) return;
    event.preventDefault();
    event.stopPropagation();
    call(event);
  }));

  // What there is to see ---------------------------------------------------------------------------------------------

  function fillPicker() {
    const ids = [...new Set([...page.known, ...state.objects.map((object) => object.id)])].sort((a, b) => a - b);
    const asked = new Set(state.requests.map((request) => request.object));
    const focused = picker.contains(document.activeElement) ? document.activeElement.dataset.object : null;
    picker.replaceChildren(...ids.map((id) => {
      const node = button("", `pick ${nameOf(id)}`, id < 10 ? String(id) : "", () => pick(id));
      node.append(make("span", { class: "lazyvos-shape", style: `color:${css(id)}` }, shapeOf(id)), ` ${options.names[id] ?? id}`);
      node.dataset.object = id;
      node.setAttribute("aria-pressed", id === page.active);
      node.classList.toggle("lazyvos-asked", asked.has(id));
      return node;
    }), button("+", "add an object", "", () => pick(Math.max(...ids) + 1)));
    if (focused) picker.querySelector(`[data-object="${focused}"]`)?.focus();
  }

  const frames = () => state.length ?? Math.max(state.t + 1, 2);

  function describe() {
    const t = state.look ?? state.t, parts = [`frame ${t}${state.length ? ` (${t + 1} of ${state.length})` : ""}`];
    if (state.look != null) parts.push("looking back");
    else if (state.ended) parts.push("the clip has ended");
    else if (state.playing) parts.push("playing");
    for (const object of state.look == null ? state.objects : []) { // their numbers are those of the present frame
      parts.push(`${shapeOf(object.id)} ${nameOf(object.id)} ${object.score == null ? "" : object.score.toFixed(2)}`.trim());
    }
    return parts.join(" · ");
  }

  /** The value and the threshold that it passed, with as many digits as tell them apart. */
  function why(request) {
    if (!request.passed) return ` uncertain (S ${request.score.toFixed(2)}${request.delta == null ? "" : `, ΔS ${signed(request.delta)}`})`;
    const [measure, value, threshold] = request.passed;
    const digits = [2, 3, 4, 5, 6].find((n) => value.toFixed(n) !== threshold.toFixed(n)) ?? 2;
    return `: ${measure} ${value.toFixed(digits)} ${value > threshold ? ">" : "≥"} ${threshold.toFixed(digits)}`;
  }

  function fillCard() {
    const request = state.look == null ? state.requests[0] : null;
    if (!request && card.contains(document.activeElement)) root.focus({ preventScroll: true });
    card.hidden = !request;
    if (!request) return "";
    const more = state.requests.length > 1 ? ` ${state.requests.length - 1} more after it.` : "";
    const left = request.left == null ? "" : ` ${Math.max(0, Math.ceil(request.left))} s left.`;
    const text = `${nameOf(request.object)}${why(request)} · click or skip.`;
    question.replaceChildren(
      make("span", { class: "lazyvos-shape", style: `color:${css(request.object)}` }, shapeOf(request.object)),
      make("b", {}, ` ${text[0].toUpperCase()}${text.slice(1)}`), `${left}${more}`,
      make("br"), make("small", {}, "Click on the object, here or in the frame. If it is not there, click with the right button on what was taken for it, or skip (N)."));
    return text;
  }

  /** Make the canvas as large as the cell and as sharp as the screen. */
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

  function layer(context, picture, alpha = 1) {
    if (!picture || alpha <= 0) return;
    context.globalAlpha = Math.min(1, alpha);
    context.drawImage(picture, 0, 0, state.size[1], state.size[0]);
    context.globalAlpha = 1;
  }

  function pictures(context) {
    layer(context, layers.frame);
    const hot = page.entropy && layers.heat;
    if (hot) layer(context, layers.heat, page.heat);
    if (page.masks && layers.labels) {
      layer(context, layers.labels.fill, hot && page.heat > 0 ? page.opacity * 0.35 : page.opacity);
      layer(context, layers.labels.edge, page.opacity > 0 ? 1 : 0);
    }
  }

  function strokes(context, ...pens) {
    for (const [color, wide] of pens) {
      context.strokeStyle = color;
      context.lineWidth = wide;
      context.stroke();
    }
  }

  function marker(context, x, y, item, waiting) {
    const radius = 9;
    context.beginPath();
    if (item.positive) context.arc(x, y, radius, 0, 2 * Math.PI);
    else context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
    context.fillStyle = css(item.object);
    context.globalAlpha = waiting ? 0.55 : 1;
    context.fill();
    context.globalAlpha = 1;
    context.setLineDash(waiting ? [3, 3] : []);
    strokes(context, ["#000", 4], ["#fff", 2]);
    context.setLineDash([]);
    context.beginPath();
    context.moveTo(x - 4.5, y); context.lineTo(x + 4.5, y);
    if (item.positive) { context.moveTo(x, y - 4.5); context.lineTo(x, y + 4.5); }
    strokes(context, ["#000", 4.5], ["#fff", 2.5]);
  }

  function tagOf(context, x, y, text, id) {
    context.font = "600 12px system-ui, sans-serif";
    const width = context.measureText(text).width + 10, top = Math.max(2, y - 22);
    context.fillStyle = "rgba(0,0,0,.72)";
    context.beginPath();
    context.roundRect(x - width / 2, top, width, 18, 4);
    context.fill();
    context.fillStyle = css(id);
    context.fillText(text[0], x - width / 2 + 5, top + 13);
    context.fillStyle = "#fff";
    context.fillText(text.slice(1), x - width / 2 + 5 + context.measureText(text[0]).width, top + 13);
  }

  let frameRequest = 0;
  function redraw() {
    if (!frameRequest) frameRequest = requestAnimationFrame(guard((now) => { frameRequest = 0; paint(now); }));
  }

  function paint(now) {
    if (!layers.frame || !stage.clientWidth) return;
    const [height, width] = state.size;
    const wide = Math.min(stage.clientWidth, Math.max(240, window.innerHeight * 0.72) * width / height);
    const context = fit(canvas, wide, wide * height / width), scale = scaleNow();
    const at = (x, y) => [(x + 0.5 - page.left) * scale, (y + 0.5 - page.top) * scale];
    context.save();
    context.scale(scale, scale);
    context.translate(-page.left, -page.top);
    context.imageSmoothingEnabled = scale < 6;
    context.imageSmoothingQuality = "high";
    pictures(context);
    context.restore();
    if (page.masks && layers.labels) {
      const asked = state.look == null ? state.requests[0]?.object : null; // its ring takes the place of the tag
      for (const [id, tag] of layers.labels.tags) {
        if (id === asked) continue;
        const k = width / layers.labels.fill.width;
        tagOf(context, ...at(tag.x * k, tag.y * k), `${shapeOf(id)} ${options.names[id] ?? id}`, id);
      }
    }
    if (state.look == null) {
      for (const item of state.clicks) marker(context, ...at(item.x, item.y), item, false);
      for (const item of page.pending) marker(context, ...at(item.x, item.y), item, true);
      const request = state.requests[0];
      if (request?.at) pulse(context, ...at(...request.at), now);
    }
    paintLens();
    paintTime();
  }

  const still = window.matchMedia?.("(prefers-reduced-motion: reduce)");
  function pulse(context, x, y, now) {
    const phase = still?.matches ? 0.5 : (now % 1200) / 1200;
    for (const [radius, alpha] of [[14, 1], [14 + 26 * phase, 1 - phase]]) {
      context.globalAlpha = alpha;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      strokes(context, ["#000", 5], ["#ffd400", 3]);
    }
    context.globalAlpha = 1;
    if (!still?.matches) redraw();
  }

  function paintLens() {
    const request = state.requests[0];
    lens.hidden = larger.hidden = !request?.at;
    if (card.hidden || !request?.at) return;
    const part = region(), context = fit(lens, LENS, LENS), at = (x, y) => [(x + 0.5 - part.left) * part.scale, (y + 0.5 - part.top) * part.scale];
    context.save();
    context.scale(part.scale, part.scale);
    context.translate(-part.left, -part.top);
    context.imageSmoothingEnabled = part.scale < 6;
    layer(context, layers.frame);
    if (layers.region && state.box) context.drawImage(layers.region, ...state.box);
    layer(context, layers.heat, 0.65 * page.heat);
    if (layers.labels) layer(context, layers.labels.edge);
    context.restore();
    for (const item of [...state.clicks, ...page.pending]) marker(context, ...at(item.x, item.y), item, page.pending.includes(item));
    if (lens.matches(":focus-visible")) {
      const [x, y] = at(...(page.cross ?? request.at.map(Math.floor)));
      context.beginPath();
      for (const [dx, dy] of Object.values(ARROWS)) { context.moveTo(x + 4 * dx, y + 4 * dy); context.lineTo(x + 16 * dx, y + 16 * dy); }
      strokes(context, ["#000", 5], ["#fff", 2.5]);
    }
    Object.assign(lens.dataset, { left: part.left, top: part.top, reach: part.reach });
  }

  function paintTime() {
    const line = state.timeline, ids = line.objects, lane = 9, curve = 34, marks = 13;
    const width = stage.clientWidth, height = Math.max(1, ids.length) * lane + curve + marks + 6;
    const context = fit(time, width, height), ink = getComputedStyle(root).color, x = (t) => t / frames() * width;
    const bin = (i) => [x(i * line.span), Math.max(1, x((i + 1) * line.span) - x(i * line.span))];
    const base = Math.max(1, ids.length) * lane + curve, top = Math.max(1, ...ids.flatMap((id) => line.scores[id]));
    context.globalAlpha = 0.1;
    context.fillStyle = ink;
    for (let i = 0; i < Math.max(1, ids.length); i++) context.fillRect(0, i * lane + 1, width, lane - 2);
    context.fillRect(0, base - curve + 2, width, curve - 2);
    context.globalAlpha = 1;
    ids.forEach((id, row) => {
      context.fillStyle = context.strokeStyle = css(id);
      line.present[id].forEach((seen, i) => { if (seen) context.fillRect(bin(i)[0], row * lane + 1, bin(i)[1] + 0.3, lane - 2); });
      context.beginPath();
      let pen = false;
      line.scores[id].forEach((score, i) => {
        if (score == null) { pen = false; return; }
        const [left, wide] = bin(i), y = base - 2 - Math.min(1, score / top) * (curve - 6);
        if (pen) context.lineTo(left + wide / 2, y); else context.moveTo(left + wide / 2, y);
        pen = true;
      });
      context.lineWidth = 1.6;
      context.setLineDash(row ? [4 + row, 2] : []);
      context.stroke();
      context.setLineDash([]);
    });
    context.fillStyle = ink;
    context.textAlign = "center";
    context.font = "10px system-ui, sans-serif";
    line.marks.forEach((mark, i) => {
      const middle = bin(i)[0] + bin(i)[1] / 2;
      if (mark & MARKS.kept) context.fillRect(middle - 0.5, base + 1, 1, 4);
      for (const [name, glyph] of [["pseudo", "◇"], ["clicked", "●"], ["asked", "▲"]]) {
        if (mark & MARKS[name]) context.fillText(glyph, Math.min(Math.max(middle, 5), width - 5), base + 14);
      }
    });
    const here = Math.min(Math.max(x(state.t + 0.5), 5), width - 5);
    if (state.clicks.length) context.fillText("●", here, base + 14);
    if (state.requests.length) context.fillText("▲", here, base + 14);
    context.textAlign = "left";
    for (const [t, color] of [[state.t, ink], [state.look, "#d55e00"]]) {
      if (t == null) continue;
      context.fillStyle = color;
      context.fillRect(Math.min(x(t + 0.5), width - 2) - 0.5, 0, 2, base + 4);
    }
  }

  // What Python says -------------------------------------------------------------------------------------------------

  async function load(name, type, treat) {
    const bytes = model.get(name);
    if (layers.sources[name]?.bytes !== bytes) {
      layers.sources[name] = { bytes, ready: bitmap(bytes, type).then((image) => image && treat(image)) };
    }
    return layers.sources[name].ready;
  }

  async function refresh() {
    const token = ++page.token, next = model.get("state");
    if (next.seq === undefined) return;
    const [frame, labels, doubt, region] = await Promise.all([
      load("frame", "image/jpeg", (image) => image), load("labels", "image/png", (image) => paintLabels(image, colorOf)),
      load("entropy_map", "image/png", paintHeat), load("region", "image/jpeg", (image) => image),
    ]);
    if (token < page.painted) return; // a newer answer is on the screen already
    const before = page.painted ? state : {};
    page.painted = token;
    state = next;
    Object.assign(layers, { frame, labels, heat: doubt, region });
    page.pending = page.pending.filter((item) => item.id > state.answer);
    const asked = state.requests[0];
    if (asked && !(before.requests ?? []).some((old) => old.object === asked.object && old.t === asked.t)) {
      page.active = asked.object;
      page.cross = null;
    }
    fillPicker();
    const text = fillCard();
    status.textContent = describe();
    undo.disabled = !state.clicks.length;
    redo.disabled = !state.redo;
    step.disabled = state.ended;
    play.disabled = state.ended;
    if (before.playing !== state.playing) play.replaceChildren(icon(state.playing ? "pause" : "play"));
    play.setAttribute("aria-label", state.playing ? "pause" : "play");
    play.title = `${state.playing ? "pause" : "play"} (Space)`;
    heat.setAttribute("aria-pressed", page.entropy);
    hint.textContent = state.objects.length || state.playing ? "" : "Click on the object that should be followed.";
    hint.hidden = !hint.textContent;
    toLive.hidden = state.look == null;
    toLive.textContent = state.requests.length && state.look != null
      ? `${nameOf(state.requests[0].object)} is asked about · back to live` : "looking back · back to live";
    if (state.error !== before.error) complain(state.error);
    tell(text || (state.playing ? "" : state.message || describe()));
    redraw();
    Object.assign(root.dataset, { seq: state.seq, t: state.t, answer: state.answer, requests: state.requests.length });
  }

  const changed = guard(refresh);
  model.on("change:state", changed);
  const watcher = new ResizeObserver(redraw);
  watcher.observe(root);
  const tick = setInterval(guard(() => {
    if (!state.live || !state.requests?.length) return;
    for (const request of state.requests) if (request.left != null) request.left -= 1;
    fillCard();
  }), 1000);
  changed();
  return () => {
    model.off("change:state", changed);
    watcher.disconnect();
    clearInterval(tick);
    cancelAnimationFrame(frameRequest);
  };
}

export default { render };
