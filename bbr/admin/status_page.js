
"use strict";

// Asks for this page again every few seconds, and takes over what has changed. What is shown, and how it is written, is
// up to the server alone; all that is written here is that it does not answer, and the button that pauses.

const EVERY_MS = 3000;
const TIMEOUT_MS = 10000;

// Make a node like a fresh one, from the top down. Nodes that stay keep what the reader has done with them: what is
// selected, typed in, focused, scrolled or folded.
function adopt(node, fresh) {
  if (node.nodeName !== fresh.nodeName) {
    node.replaceWith(fresh);
  } else if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== fresh.data) node.data = fresh.data;
  } else {
    adoptAttributes(node, fresh);
    const before = [...node.childNodes];
    const after = [...fresh.childNodes];
    after.forEach((child, number) => before[number] ? adopt(before[number], child) : node.append(child));
    before.slice(after.length).forEach((child) => child.remove());
  }
}

// Whether something is folded changes only when the server's mind does: by its first row, or its last one.
function adoptAttributes(node, fresh) {
  const kept = node.nodeName === "DETAILS" && node.dataset.fold === fresh.dataset.fold ? ["open"] : [];
  for (const { name } of [...node.attributes]) {
    if (!fresh.hasAttribute(name) && !kept.includes(name)) node.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (node.getAttribute(name) !== value && !kept.includes(name)) node.setAttribute(name, value);
  }
}

// What a screen reader is told: not every number, but whether the router answers.
function say(text) {
  const said = document.getElementById("said");
  if (said.textContent !== text) said.textContent = text;
}

let timer = null;
let paused = false;

async function refresh() {
  clearTimeout(timer);
  const root = document.documentElement;
  try {
    const answer = await fetch(location.href, {
      cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (page.title !== document.title) throw new Error("something else answers");
    for (const name of ["header", "main"]) adopt(document.querySelector(name), page.querySelector(name));
    if (root.classList.contains("stale")) say("The router answers again.");
    root.classList.remove("stale");
  } catch (error) {
    document.getElementById("fresh").textContent =
      `the router does not answer (${error.message}); these are its last numbers`;
    root.classList.add("stale");
    say("The router does not answer.");
  }
  clearTimeout(timer);
  if (!document.hidden && !paused) timer = setTimeout(refresh, EVERY_MS);
}

const button = document.getElementById("pause");
button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Resume" : "Pause";
  say(paused ? "Paused." : "Live.");
  if (paused) clearTimeout(timer);
  else refresh();
});

// A page that nobody looks at asks nothing.
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });
timer = setTimeout(refresh, EVERY_MS);
