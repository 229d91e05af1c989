// What the pages of all widgets share; it stands before each of them in one module.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = ["●", "■", "▲", "◆", "★", "⬟", "✚"];
const ICONS = {
  play: "M4 2l10 6-10 6z", pause: "M3 2h4v12H3zM9 2h4v12H9z", step: "M3 2l8 6-8 6zM11 2h2v12h-2z",
  undo: "M6.5 2v3C11 5 14 8 14 13c-1.5-2.5-4-4-7.5-4v3L1 7z", redo: "M9.5 2v3C5 5 2 8 2 13c1.5-2.5 4-4 7.5-4v3L15 7z",
};

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function icon(name) {
  const holder = make("span");
  holder.innerHTML = `<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><path fill="currentColor" d="${ICONS[name]}"/></svg>`;
  return holder.firstChild;
}

const within = (value, low, high) => Math.min(Math.max(value, low), high);
const minus = (text) => text.replace("-", "−");
const signed = (value, digits = 2) => (value == null ? "−∞" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`);

/** Round steps for an axis, at least `least` apart. */
function ticks(low, high, count, least = 0) {
  const raw = Math.max((high - low) / count, least) || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= raw * 0.999), found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(10)));
  return found;
}

/** A picture from JPEG or PNG bytes; a PNG keeps its values. */
async function bitmap(bytes, type) {
  if (!bytes?.byteLength) return null;
  return createImageBitmap(new Blob([bytes], { type }), type === "image/png" ? { colorSpaceConversion: "none", premultiplyAlpha: "none" } : {});
}

function pixels(image) {
  const canvas = make("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

function canvasOf(data) {
  const canvas = make("canvas");
  canvas.width = data.width;
  canvas.height = data.height;
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/** Fill and outline of every object of a label map as two pictures, and of each its first pixel and area. */
function paintLabels(image, colorOf) {
  if (!image) return null;
  const { width, height, data } = pixels(image);
  const fill = new ImageData(width, height), edge = new ImageData(width, height), tags = new Map();
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      const label = data[i];
      if (label === 0 || label === 255) continue;
      const color = [...colorOf(label), 255], tag = tags.get(label);
      fill.data.set(color, i);
      if ((x && data[i - 4] !== label) || (x + 1 < width && data[i + 4] !== label) || (y && data[i - 4 * width] !== label)
        || (y + 1 < height && data[i + 4 * width] !== label)) edge.data.set(color, i);
      if (tag) tag.area++;
      else tags.set(label, { x, y, area: 1 });
    }
  }
  return { fill: canvasOf(fill), edge: canvasOf(edge), tags };
}

/** Messages to Python, errors in both directions, words for screen readers, and buttons. */
function basics(model) {
  let told = "";
  const send = (kind, content = {}) => model.send({ kind, ...content });

  function report(error) {
    complain(`This page: ${error?.message ?? error}`);
    try {
      send("error", { message: String(error?.message ?? error), stack: String(error?.stack ?? "") });
    } catch (lost) {
      console.error(error, lost);
    }
  }

  /** The same function, with its errors (a promise's too) reported. */
  const guard = (call) => (...given) => {
    try {
      const result = call(...given);
      return result instanceof Promise ? result.catch(report) : result;
    } catch (error) {
      return report(error);
    }
  };

  const button = (text, label, key, call) =>
    make("button", { type: "button", title: key ? `${label} (${key})` : label, "aria-label": label, onclick: guard(call) }, text);

  const live = make("div", { class: "lazyvos-live", role: "status", "aria-live": "polite" });
  const wrong = make("div", { class: "lazyvos-error", role: "alert", hidden: true }, make("span"),
    button("×", "close this message", "", () => complain("")));

  function complain(text) {
    wrong.querySelector("span").textContent = text;
    wrong.hidden = !text;
  }

  function tell(text) {
    if (text && text !== told) live.textContent = text;
    told = text;
  }

  return { send, guard, button, complain, tell, live, wrong };
}

/**
 * What a hand does on the picture: click, drag, zoom. `page.left`, `page.top` (pixels of the frame) and `page.zoom` say which part is shown;
 * `size()` is the frame's [height, width], `click(x, y, positive)` is told of a click inside it.
 */
function hand({ canvas, stage, root, page, size, guard, redraw, click }) {
  let drag = null;

  /** Pixels of the screen to a pixel of the frame. */
  const scaleNow = () => page.zoom * canvas.clientWidth / size()[1];

  /** Where an event is, in pixels of the frame. */
  function place(event) {
    const box = canvas.getBoundingClientRect(), factor = scaleNow();
    return [(event.clientX - box.left) / factor + page.left, (event.clientY - box.top) / factor + page.top];
  }

  function move(dx, dy) {
    page.left = within(page.left + dx, 0, size()[1] * (1 - 1 / page.zoom));
    page.top = within(page.top + dy, 0, size()[0] * (1 - 1 / page.zoom));
    redraw();
  }

  /** Larger by a factor, with pixel (x, y) where it is; the middle of what is shown by default. */
  function zoom(factor, x = page.left + size()[1] / page.zoom / 2, y = page.top + size()[0] / page.zoom / 2) {
    const wanted = within(page.zoom * factor, 1, 12), ratio = page.zoom / wanted;
    page.left = x - (x - page.left) * ratio;
    page.top = y - (y - page.top) * ratio;
    page.zoom = wanted;
    move(0, 0);
  }

  canvas.addEventListener("pointerdown", guard((event) => {
    if (event.button > 2) return;
    event.preventDefault();
    root.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, moved: event.button === 1, button: event.button };
  }));
  canvas.addEventListener("pointermove", guard((event) => {
    if (!drag) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 5) return;
    Object.assign(drag, { moved: true, x: event.clientX, y: event.clientY });
    move(-dx / scaleNow(), -dy / scaleNow());
  }));
  canvas.addEventListener("pointerup", guard((event) => {
    const done = drag;
    drag = null;
    if (!done || done.moved) return;
    const [x, y] = place(event).map(Math.floor), [height, width] = size();
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    click(x, y, !(done.button === 2 || event.shiftKey || event.ctrlKey));
  }));
  canvas.addEventListener("pointercancel", () => { drag = null; });
  stage.addEventListener("contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
  canvas.addEventListener("wheel", guard((event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), ...place(event));
  }), { passive: false });

  return { scaleNow, zoom };
}
