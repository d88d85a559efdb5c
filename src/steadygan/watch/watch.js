// The live page: it hears what is new, keeps it, and draws what has changed. Text from outside only ever becomes text.
"use strict";
const find = (selector, at = document) => at.querySelector(selector);
const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
};
const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const whole = (value) => value.toLocaleString("en-US");
const spell = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? Number(value.toPrecision(3)).toExponential().replace("e+", "e") : String(Number(value.toPrecision(4)));
};
const short = (value) => {
  const [unit, name] = Math.abs(value) >= 1e6 ? [1e6, "M"] : Math.abs(value) >= 1e4 ? [1e3, "k"] : [1, ""];
  return Number((value / unit).toPrecision(4)) + name;
};
const duration = (seconds) => {
  const rest = Math.round(seconds);
  if (rest < 60) return `${rest} s`;
  if (rest < 3600) return `${Math.floor(rest / 60)} min ${rest % 60} s`;
  if (rest < 86400 * 2) return `${Math.floor(rest / 3600)} h ${Math.floor((rest % 3600) / 60)} min`;
  return `${Math.floor(rest / 86400)} d ${Math.floor((rest % 86400) / 3600)} h`;
};

const SHOWN = 7; // lines that are drawn unless somebody asks for more: as many as there are colours
let runs = [], panels = [], settings = null, anew = true;
const told = new Map(), curves = new Map(), cards = new Map(), plots = new Map(), rows = new Map(), choice = new Map();
let dirty = new Set(), chosen = null;

// ---------------------------------------------------------------- what is heard
const source = new EventSource("events");
const link = (mood, text) => { find("#link").className = `quiet ${mood}`; find("#link").textContent = text; };
source.onopen = () => { anew = true; link("busy", "live"); };
source.onerror = () => link("bad", source.readyState === EventSource.CLOSED
  ? "no longer connected: start steadygan watch again, and open its new address" : "connection lost; trying again …");
source.onmessage = (event) => {
  if (anew) { for (const held of [told, curves]) held.clear(); anew = false; dirty.add("all"); }
  const news = JSON.parse(event.data);
  if (news.runs) { runs = news.runs; dirty.add("all"); }
  if (news.panels) { panels = news.panels; dirty.add("all"); }
  if (news.settings) { settings = news.settings; dirty.add("settings"); }
  for (const [id, part] of Object.entries(news.told ?? {})) hear(Number(id), part);
  requestAnimationFrame(draw);
};
function hear(id, { anew, curves: grown = [], ...parts }) {
  if (anew) { for (const key of [...curves.keys()]) if (key.startsWith(`${id}|`)) curves.delete(key); dirty.add("all"); }
  told.set(id, { ...told.get(id), ...parts });
  Object.keys(parts).forEach((part) => dirty.add(part));
  for (const { name, line, from, ...columns } of grown) {
    const key = `${id}|${line}|${name}`, held = curves.get(key);
    if (!held || from === 0) curves.set(key, columns);
    else for (const [column, values] of Object.entries(columns)) held[column].splice(from, Infinity, ...values);
    dirty.add(name);
  }
}

// ---------------------------------------------------------------- which runs, which lines
const isShown = (run) => choice.get(run.id) ?? runs.slice(0, runs.indexOf(run)).reduce((sum, each) => sum + each.lines.length, 0) < SHOWN;
const shown = () => runs.filter(isShown);
const colour = (run, line = 0) => `c${(run.id + line) % 7}`;
const lines = () => shown().flatMap((run) => run.lines.map((line, i) =>
  ({ run, line, colour: colour(run, i), label: line === "" ? run.name : runs.length > 1 ? `${run.name}: ${line}` : line })));
const toggle = (run) => {
  const button = h("button", { class: `chip ${colour(run)}`, type: "button", "aria-pressed": "true", title: "show or hide" }, run.name);
  button.addEventListener("click", () => { choice.set(run.id, !isShown(run)); dirty.add("all"); draw(); });
  return button;
};

// ---------------------------------------------------------------- drawing
function draw() {
  if (!dirty.size) return;
  const what = dirty, all = what.has("all");
  dirty = new Set();
  if (all || what.has("state")) drawRuns();
  if (all || what.has("warnings")) drawWarnings();
  if (all || what.has("samples")) drawSamples();
  drawCurves(what, all || what.has("warnings"));
  if (all || what.has("settings")) drawSettings();
}

function drawRuns() {
  const place = find("#runs"), states = runs.map((run) => told.get(run.id)?.state);
  place.classList.toggle("many", runs.length > 6);
  for (const id of [...cards.keys()]) if (!runs.some((run) => run.id === id)) { cards.get(id).root.remove(); cards.delete(id); }
  runs.forEach((run, i) => {
    if (!cards.has(run.id)) {
      const [button, badge, rest] = [toggle(run), h("span", { class: "badge" }), h("div")];
      const root = h("article", { class: "card verdict" }, h("h3", {}, button, badge), rest);
      cards.set(run.id, { root, button, badge, rest });
    }
    const { root, button, badge, rest } = cards.get(run.id), state = states[i];
    if (place.children[i] !== root) place.insertBefore(root, place.children[i] ?? null);
    button.setAttribute("aria-pressed", isShown(run));
    button.disabled = runs.length === 1;
    if (state) { badge.className = `badge ${state.mood}`; badge.textContent = state.state; rest.replaceChildren(...describe(run, state)); }
  });
  const one = runs.length === 1 ? states[0] : null, known = states.filter((state) => state?.steps);
  find("#name").textContent = runs.length === 1 ? runs[0].name : runs.length ? `${runs.length} runs` : "no runs yet";
  find("#about").textContent = [...(settings?.problems ?? []), one?.members ? `${one.members} GANs at once` : one?.title].filter(Boolean).join(" · ");
  const share = known.reduce((sum, state) => sum + Math.min(1, state.step / state.steps), 0) / known.length;
  document.title = `${known.length ? `${Math.floor(100 * share)} % ` : ""}${find("#name").textContent} · steadygan`;
}
function describe(run, state) {
  const words = [
    state.step || state.steps ? `${whole(state.step)}${state.steps ? ` of ${whole(state.steps)}` : ""} steps` : "",
    state.seconds === null ? "" : duration(state.seconds),
    state.state === "running" && state.speed ? `${spell(Number(state.speed.toPrecision(3)))} it/s` : "",
    state.left === null ? "" : `${duration(state.left)} left`,
  ].filter(Boolean).join(" · ");
  const advice = {
    waiting: "There is no run in this folder yet; it is waited for.",
    gone: "The folder is gone; what was seen of it stays here.",
    killed: "Its process is no more. To go on from its last checkpoint: steadygan resume",
  }[state.state];
  const silent = state.heard === null ? 0 : Date.now() / 1000 - state.heard, metrics = Object.entries(state.metrics);
  return [
    state.steps ? h("progress", { max: state.steps, value: Math.min(state.step, state.steps), "aria-label": `progress of ${run.name}` }) : null,
    words ? h("p", {}, words) : null,
    advice ? h("p", { class: "quiet" }, advice) : null,
    state.reason ? h("p", { class: state.trouble ? "bad" : "quiet" }, String(state.reason)) : null,
    silent > 120 ? h("p", { class: "quiet" }, `nothing written for ${duration(silent)}`) : null,
    metrics.length ? h("dl", { class: "tiles" }, ...metrics.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : null,
    h("p", {}, ...state.alarms.map(([kind, count]) => h("span", { class: "alarm" }, count > 1 ? `${count} × ${kind}` : kind)),
      ...(state.alarms.length || state.state === "waiting" ? [] : [h("span", { class: "quiet" }, "no warnings")])),
  ].filter(Boolean);
}

function drawWarnings() {
  const all = runs.flatMap((run) => (told.get(run.id)?.warnings ?? []).map((warning) => ({ run, ...warning })));
  find("#warnings").hidden = !all.length;
  find("#warnings tbody").replaceChildren(...all.map(({ run, step, kind, message, advice }) => h("tr", { class: "warned" },
    h("td", {}, h("span", { class: `chip ${colour(run)}` }, run.name)), h("td", { class: "value", "data-head": "step" }, whole(step)), h("td", { class: "code" }, kind),
    h("td", {}, message, advice ? h("p", { class: "quiet" }, `Try: ${advice}.`) : null))));
}

function drawSamples() {
  const held = shown().map((run) => [run, told.get(run.id)?.samples]).filter(([, samples]) => samples && (samples.steps.length || samples.real !== null));
  const steps = [...new Set(held.flatMap(([, samples]) => samples.steps))].sort((a, b) => a - b);
  const slider = find("#samples input");
  find("#samples").hidden = !held.length;
  find(".slide").hidden = steps.length < 2;
  slider.max = Math.max(0, steps.length - 1);
  // Until somebody chooses, half of the way back.
  const at = chosen === null ? Math.floor((steps.length - 1) / 2) : Math.max(0, steps.findLastIndex((step) => step <= chosen));
  slider.value = at;
  slider.setAttribute("aria-valuetext", `step ${steps[at]}`);
  find("#chosen").textContent = steps.length ? `step ${whole(steps[at])}` : "";
  slider.oninput = () => { chosen = steps[slider.value]; drawSamples(); };
  find("#stages").classList.toggle("several", held.length > 3);
  for (const [id, row] of rows) if (!held.some(([run]) => run.id === id)) { row.remove(); rows.delete(id); }
  held.forEach(([run, samples], i) => {
    if (!rows.has(run.id)) {
      const [older, newest, real] = ["older", "newest", "real"].map((name) => h("figure", { class: name }, h("figcaption", { class: "quiet" }), h("img", { alt: "" })));
      rows.set(run.id, h("div", { class: "card" }, h("span", { class: `chip ${colour(run)}` }, run.name), h("div", { class: "trio" }, older, newest, real)));
    }
    // Of many GANs a picture is a sheet of all, with the real points in each.
    const many = told.get(run.id).state?.members > 0;
    find(".trio", rows.get(run.id)).classList.toggle("sheets", many);
    const row = rows.get(run.id), last = samples.steps.length - 1, earlier = samples.steps.findLastIndex((step) => step <= steps[at]);
    if (find("#stages").children[i] !== row) find("#stages").insertBefore(row, find("#stages").children[i] ?? null);
    const put = (name, caption, path, version) => {
      const figure = find(`.${name}`, row), image = find("img", figure), address = path === null ? "" : `${path}?${version}`;
      figure.hidden = path === null;
      find("figcaption", figure).textContent = caption;
      if (image.dataset.address === address) return;
      image.dataset.address = address;
      image.className = samples.drawn ? "ink" : "pixels";
      image.alt = `${caption}, samples of ${run.name}`;
      if (address) image.src = address; else image.removeAttribute("src");
    };
    const path = (index) => (index < 0 ? null : `samples/${run.id}/${samples.steps[index]}`);
    put("older", `step ${whole(samples.steps[earlier] ?? 0)}`, path(earlier), samples.versions[earlier]);
    put("newest", `newest: step ${whole(samples.steps[last] ?? 0)}`, path(last), samples.versions[last]);
    put("real", "real", samples.real === null || (many && samples.drawn) ? null : `samples/${run.id}/real`, samples.real);
  });
}

function drawSettings() {
  find("#settings").hidden = !settings || !runs.some((run) => told.get(run.id)?.state);
  if (!settings) return;
  const differing = Object.entries(settings.differing), known = runs.filter((run) => differing.some(([, values]) => run.id in values));
  const chip = (run) => h("span", { class: `chip ${colour(run)}` }, run.name);
  find("#settings table").hidden = !differing.length;
  find("#settings thead").replaceChildren(h("tr", {}, h("th", {}, "run"), ...differing.map(([name]) => h("th", {}, name))));
  find("#settings tbody").replaceChildren(...known.map((run) => h("tr", {}, h("th", {}, chip(run)), ...differing.map(([, values]) => h("td", { class: "code" }, values[run.id] ?? "–")))));
  find("#settings summary").textContent = runs.length > 1 ? "The same in all runs" : "All settings";
  find("#settings dl").replaceChildren(...Object.entries(settings.shared).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "code" }, value))));
  find(".commands").replaceChildren(...runs.filter((run) => run.id in settings.commands).flatMap((run) => [
    ...(runs.length > 1 ? [h("p", {}, chip(run))] : []), h("pre", { class: "copy" }, settings.commands[run.id])]));
}

// ---------------------------------------------------------------- curves
function drawCurves(what, all) {
  find("#curves").hidden = !curves.size;
  if (all) {
    find("#curves .legend").replaceChildren(...(lines().length > 1 ? lines().map(({ label, colour }) => h("span", { class: `chip ${colour}` }, label)) : []));
    for (const [title, plot] of plots) if (!panels.some((panel) => panel.title === title)) { plot.root.remove(); plots.delete(title); }
  }
  panels.forEach(({ title, names }, i) => {
    if (!plots.has(title)) plots.set(title, new Plot(title));
    const plot = plots.get(title), place = find("div.curves");
    plot.names = names;
    if (place.children[i] !== plot.root) place.insertBefore(plot.root, place.children[i] ?? null);
    if (all || names.some((name) => what.has(name))) plot.draw();
  });
}
window.addEventListener("resize", () => { dirty.add("all"); requestAnimationFrame(draw); });

const READ = 4; // lines whose newest values stand above their curves; more do where one points
const LEFT = 46, RIGHT = 8, TOP = 10, BOTTOM = 18, HEIGHT = 190;
class Plot {
  constructor(title) {
    this.title = title;
    this.cursor = null;
    this.read = h("span", { class: "read" });
    this.svg = s("svg", { role: "img", tabindex: "0" });
    this.root = h("figure", { class: "card plot" }, h("figcaption", {}, h("span", {}, title), this.read), this.svg);
    this.svg.addEventListener("pointermove", (event) => {
      const { left } = this.svg.getBoundingClientRect();
      if (this.x) this.point(this.x.back(event.clientX - left));
    });
    const leave = () => { this.cursor = null; this.draw(); };
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("blur", leave);
    this.svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined || !this.steps?.length) return;
      event.preventDefault();
      const at = this.cursor === null ? this.steps.length : this.steps.findIndex((step) => step >= this.cursor);
      this.point(this.steps[Math.max(0, Math.min(this.steps.length - 1, at + move))]);
    });
  }

  point(step) {
    if (!this.steps.length) return;
    this.cursor = this.steps.reduce((best, each) => (Math.abs(each - step) < Math.abs(best - step) ? each : best));
    this.draw();
  }

  draw() {
    const drawn = lines().flatMap((line) => this.names.map((name, i) =>
      ({ ...line, dash: i > 0, held: curves.get(`${line.run.id}|${line.line}|${name}`) }))).filter(({ held }) => held?.step.length);
    const width = this.svg.clientWidth || 320;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.steps = [...new Set(drawn.flatMap(({ held }) => held.step))].sort((a, b) => a - b);
    const values = drawn.flatMap(({ held }) => [...held.low, ...held.high]).filter((value) => value !== null);
    this.svg.replaceChildren();
    this.root.hidden = !values.length;
    if (!values.length) return;
    const first = this.steps[0] < 0.05 * this.steps.at(-1) ? 0 : this.steps[0];
    this.x = scale([first, this.steps.at(-1)], LEFT, width - RIGHT, false);
    const y = scale(extent(values), HEIGHT - BOTTOM, TOP, isLogarithmic(values));
    for (const tick of y.ticks(3)) {
      this.svg.append(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
        s("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, spell(tick)));
    }
    for (const tick of this.x.ticks(width > 400 ? 4 : 2)) {
      const near = this.x(tick) > width - RIGHT - 20 ? "end" : "middle";
      this.svg.append(s("text", { x: this.x(tick), y: HEIGHT - 4, "text-anchor": near }, short(tick)));
    }
    const data = s("g", { class: "data" });
    drawn.forEach((each) => data.append(...this.line(each, y)));
    for (const { run, colour } of drawn.filter(({ dash }) => !dash)) {
      for (const { step, kind } of told.get(run.id)?.warnings ?? []) {
        if (step < this.steps[0] || step > this.steps.at(-1)) continue;
        const at = this.x(step);
        data.append(s("path", { class: `alarm-mark ${colour}`, d: `M${at - 4} 1h8l-4 7z` }, s("title", {}, `step ${step}: ${kind}`)));
      }
    }
    this.svg.append(data);
    const at = this.cursor ?? this.steps.at(-1);
    if (this.cursor !== null) this.svg.append(s("line", { class: "cursor", x1: this.x(at), x2: this.x(at), y1: TOP, y2: HEIGHT - BOTTOM }));
    const here = new Map(); // what each line is there: at real and at generated samples, where it is both
    for (const { label, colour, held } of drawn) {
      const value = held.mid[held.step.findLastIndex((step) => step <= at)];
      if (value !== undefined) here.set(label, { colour, text: [here.get(label)?.text, spell(value)].filter(Boolean).join(" / ") });
    }
    const read = this.cursor === null && here.size > READ ? [] : [...here.values()];
    this.read.replaceChildren(...(this.cursor === null ? [] : [`step ${whole(at)}`]), ...read.map(({ colour, text }) => h("b", { class: colour }, text)));
    this.svg.setAttribute("aria-label", `${this.title} at step ${at}: ${[...here].map(([label, { text }]) => `${label} ${text}`).join(", ")}`);
  }

  line({ held, colour, dash }, y) {
    const { step, low, mid, high, lost } = held, points = step.map((at, i) => (mid[i] === null ? null : [this.x(at), y(mid[i]), y(low[i]), y(high[i])]));
    const runsOf = points.reduce((found, point) => { if (point === null) found.push([]); else found.at(-1).push(point); return found; }, [[]]).filter((run) => run.length);
    const path = (at) => at.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    const made = [];
    for (const run of runsOf) {
      if (run.some(([, , low, high]) => low !== high)) {
        if (run.length > 1) made.push(s("path", { class: `band ${colour}`, d: `${path(run.map(([x, , , high]) => [x, high]))}${path(run.map(([x, , low]) => [x, low]).reverse()).replace("M", "L")}Z` }));
        else made.push(s("line", { class: colour, x1: run[0][0], x2: run[0][0], y1: run[0][2], y2: run[0][3] }));
      }
      made.push(s("path", { class: `${colour}${dash ? " dash" : ""}`, d: path(run) }));
    }
    if (points.length <= 30) made.push(...points.filter(Boolean).map(([x, y]) => s("circle", { class: colour, cx: x, cy: y, r: 2 })));
    // Before the first update there is nothing to log yet; only what was finite once can have been lost.
    const first = mid.findIndex((value) => value !== null);
    lost.forEach((is, i) => { if (is && first >= 0 && i >= first) made.push(s("path", { class: colour, d: `M${this.x(step[i]) - 3} 12l6 6m0 -6l-6 6` })); });
    return made;
  }
}
const extent = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
function isLogarithmic(values) {
  const [low, high] = extent(values), positive = values.filter((value) => value > 0).sort((a, b) => a - b);
  return low >= 0 && high > 1 && high > 100 * positive[Math.floor(0.05 * positive.length)];
}
function scale([low, high], from, to, logarithmic) {
  if (logarithmic) low = Math.max(low, high / 1e8);
  if (low === high) [low, high] = low === 0 ? [-1, 1] : [low - Math.abs(low) / 10, high + Math.abs(high) / 10];
  const turn = logarithmic ? (value) => Math.log10(Math.max(value, low)) : (value) => value;
  const at = (value) => from + ((turn(value) - turn(low)) / (turn(high) - turn(low))) * (to - from);
  at.back = (place) => low + ((place - from) / (to - from)) * (high - low);
  at.ticks = (count) => {
    if (logarithmic) {
      const first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high)), every = Math.max(1, Math.ceil((last - first + 1) / (count + 1)));
      return Array.from({ length: Math.max(0, Math.floor((last - first) / every) + 1) }, (_, i) => 10 ** (first + i * every));
    }
    const rough = (high - low) / count, unit = 10 ** Math.floor(Math.log10(rough)), step = unit * [1, 2, 5].findLast((each) => each * unit <= rough);
    return Array.from({ length: Math.floor(high / step) - Math.ceil(low / step) + 1 }, (_, i) => (Math.ceil(low / step) + i) * step);
  };
  return at;
}
