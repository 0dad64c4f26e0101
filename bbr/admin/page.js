
"use strict";

// Asks for status.json every few seconds, and writes its values where page.py has written them: all as text, none as
// markup. What is to be written where, and in which form, stands in the page's data-* attributes.

const EVERY_MS = 3000;
const TIMEOUT_MS = 10000;
const NONE = "–";

const tenths = (value) => String(Math.round(value * 10) / 10);

// With its invisible characters spelled out: with them one name can look like another.
const visible = (value) => value.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (each) => {
  const digits = each.codePointAt(0).toString(16);
  if (digits.length <= 2) return `\\x${digits.padStart(2, "0")}`;
  return digits.length <= 4 ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
});

// As FORMS in page.py.
const forms = {
  text: (value) => visible(value) || NONE,
  name: (value) => visible(value) || "(none)",
  count: (value) => (value ?? null) === null ? NONE : value.toLocaleString("en-US"),
  rate: (value) => {
    if ((value ?? null) === null) return NONE;
    if (value > 0 && value < 0.1) return "< 0.1";
    return value >= 100 ? forms.count(Math.round(value)) : tenths(value);
  },
  bytes: (value) => {
    if (value < 1024) return `${value} B`;
    for (const unit of ["KiB", "MiB"]) {
      value /= 1024;
      if (value < 1024) return `${tenths(value)} ${unit}`;
    }
    return `${tenths(value / 1024)} GiB`;
  },
  duration: (value) => {
    const seconds = Math.floor(value);
    const minutes = Math.floor(seconds / 60);
    const hours = Math.floor(seconds / 3600);
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${minutes} min`;
    if (seconds < 86400) return `${hours} h ${minutes % 60} min`;
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  },
  ago: (value) => `${forms.duration(value)} ago`,
  bound: (value) => {
    if ((value ?? null) === null) return NONE;
    const [[sort, seconds]] = Object.entries(value);
    const sign = sort === "at_most_seconds" ? "≤" : ">";
    return seconds >= 1 ? `${sign} ${seconds} s` : `${sign} ${Math.round(seconds * 1e6) / 1e3} ms`;
  },
  state: (value) => value ? "ready" : "not ready",
  whether: (value) => value ? "yes" : "no",
};

const at = (found, path) => path.split(".").reduce((value, key) => value[key], found);

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function fillTable(place, found) {
  const columns = [...place.querySelectorAll("th")];
  const rows = found.rows.map((row) => element("tr", {}, ...columns.map((column) => {
    const { key, as } = column.dataset;
    const attributes = column.className ? { "data-as": as, class: column.className } : { "data-as": as };
    return element("td", attributes, element("bdi", {}, forms[as](row[key])));
  })));
  const before = place.querySelector("tbody");
  const after = element("tbody", {}, ...rows);
  if (!before.isEqualNode(after)) before.replaceWith(after);
  place.querySelector(".none").hidden = rows.length > 0;
  place.querySelector(".wide").hidden = rows.length === 0;
  const more = place.querySelector(".more");
  more.hidden = found.total <= rows.length;
  more.textContent = `${forms.count(rows.length)} of ${forms.count(found.total)} are shown.`;
}

// Requests per second from one answer to the next, unless the router was started anew between them.
function addRates(found, before) {
  const seconds = found.uptime_seconds - before.uptime_seconds;  // not of its clock, which may be set meanwhile
  if (seconds <= 0) return;
  const counted = new Map(before.models.rows.map((row) => [row.base_model, row.requests]));
  for (const row of found.models.rows) {
    if (counted.has(row.base_model)) row.per_second_now = (row.requests - counted.get(row.base_model)) / seconds;
  }
}

function fill(found) {
  for (const place of document.querySelectorAll("[data-value]")) {
    const text = forms[place.dataset.as](at(found, place.dataset.value));
    if (place.textContent !== text) place.textContent = place.dataset.is = text;
  }
  for (const place of document.querySelectorAll("[data-meter]")) {
    const [path, limit] = place.dataset.meter.split(" ");
    place.max = at(found, limit);
    place.value = at(found, path);
  }
  for (const place of document.querySelectorAll("[data-table]")) fillTable(place, found[place.dataset.table]);
  const next = document.querySelector("[data-next]");
  next.hidden = found.names.next === null;
  next.setAttribute("href", `?${new URLSearchParams({ q: found.names.query, after: found.names.next ?? "" })}`);
}

let before = null;
let timer = null;

async function refresh() {
  clearTimeout(timer);
  let said;
  try {
    const answer = await fetch(`status.json${location.search}`, {
      cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const found = await answer.json();
    if (before) addRates(found, before);
    before = found;
    fill(found);
    said = `as of ${new Date(found.time * 1000).toLocaleTimeString()}`;
    document.documentElement.classList.remove("stale");
  } catch (error) {
    said = `the router does not answer (${error.message}); these are its last numbers`;
    document.documentElement.classList.add("stale");
  }
  document.getElementById("fresh").textContent = said;
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

// A page that nobody looks at asks nothing.
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
document.documentElement.classList.add("scripted");
refresh();
