
"use strict";

// Asks for this page again every few seconds, and takes over what has changed. What is shown, and how it is written, is
// up to the server alone; all that is written here is that it does not answer.

const EVERY_MS = 3000;
const TIMEOUT_MS = 10000;

// Make a node like a fresh one, from the top down. Nodes that stay keep what the reader has done with them: what is
// selected, typed in, focused or scrolled.
function adopt(node, fresh) {
  if (node.nodeName !== fresh.nodeName) {
    node.replaceWith(fresh);
  } else if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== fresh.data) node.data = fresh.data;
  } else {
    for (const { name } of [...node.attributes]) if (!fresh.hasAttribute(name)) node.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    const before = [...node.childNodes];
    const after = [...fresh.childNodes];
    after.forEach((child, number) => before[number] ? adopt(before[number], child) : node.append(child));
    before.slice(after.length).forEach((child) => child.remove());
  }
}

let timer = null;

async function refresh() {
  clearTimeout(timer);
  try {
    const answer = await fetch(location.href, {
      cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (page.title !== document.title) throw new Error("something else answers");
    for (const name of ["header", "main"]) adopt(document.querySelector(name), page.querySelector(name));
    document.documentElement.classList.remove("stale");
  } catch (error) {
    document.getElementById("fresh").textContent =
      `the router does not answer (${error.message}); these are its last numbers`;
    document.documentElement.classList.add("stale");
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

// A page that nobody looks at asks nothing.
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
timer = setTimeout(refresh, EVERY_MS);
