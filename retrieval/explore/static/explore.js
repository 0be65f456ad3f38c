// Without this script every form and link works; with it the answer changes in place.
"use strict";

const lost = () => document.getElementById("lost");
let newest = 0;

// Fetch a page and put its live parts in the place of this page's.
async function refresh(address) {
  const number = ++newest;
  const live = [...document.querySelectorAll("[data-live]")];
  live.forEach((part) => part.setAttribute("aria-busy", "true"));
  let text;
  try {
    text = await (await fetch(address)).text();
  } catch {
    lost().hidden = false;
    setTimeout(() => number === newest && refresh(address), 2000);
    return;
  }
  if (number !== newest) return; // a later question was asked meanwhile
  lost().hidden = true;
  const page = new DOMParser().parseFromString(text, "text/html");
  if (document.querySelector("[data-whole]") || page.querySelector("[data-whole]")) {
    document.querySelector("main").replaceWith(page.querySelector("main"));
  } else {
    swap(live, page);
  }
  history.replaceState(null, "", address);
  document.dispatchEvent(new Event("refreshed"));
  lookAgain();
}

function swap(live, page) {
  const focused = document.activeElement.getAttribute("aria-label");
  const within = document.activeElement.closest("[data-live]")?.id;
  const open = [...document.querySelectorAll("[data-live] details[open] > summary")].map((one) => one.textContent);
  for (const part of live) {
    const fresh = page.getElementById(part.id);
    if (fresh) part.replaceWith(fresh);
    else part.removeAttribute("aria-busy");
  }
  for (const summary of document.querySelectorAll("[data-live] details > summary")) {
    if (open.includes(summary.textContent)) summary.parentElement.open = true;
  }
  if (!within || document.activeElement !== document.body) return;
  const part = document.getElementById(within);
  part.tabIndex = -1; // where what had the focus is gone, its part has it
  (part.querySelector(`[aria-label="${CSS.escape(focused ?? "")}"]`) ?? part).focus({ preventScroll: true });
}

// A part that waits for something says after how many milliseconds to look again.
function lookAgain() {
  const waiting = document.querySelector("[data-retry]");
  const number = newest;
  if (waiting) setTimeout(() => number === newest && refresh(location.href), Number(waiting.dataset.retry));
}

function addressOf(form, button) {
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form, button)) if (value !== "" || name === button?.name) fields.append(name, value);
  return `${form.getAttribute("action")}?${fields}`;
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-live-form]")) return;
  event.preventDefault();
  refresh(addressOf(event.target, event.submitter));
});

const inWords = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 19); // as a field of date and time has it

let typing;
document.addEventListener("input", (event) => {
  const mirrored = event.target.dataset.mirror;
  const form = event.target.closest("[data-live-form]");
  if (!form) return;
  if (mirrored) form.elements[mirrored].value = event.target.matches("[data-time]") ? inWords(event.target.value) : event.target.value;
  const slider = form.querySelector(`[data-mirror="${event.target.name}"]`);
  if (slider) slider.value = slider.matches("[data-time]") ? Date.parse(event.target.value + "Z") / 1000 : event.target.value;
  clearTimeout(typing);
  typing = setTimeout(() => refresh(addressOf(form)), event.target.type === "checkbox" ? 0 : 250);
});

document.addEventListener("click", async (event) => {
  const from = event.target.dataset?.copy;
  if (!from) return;
  await navigator.clipboard.writeText(document.getElementById(from).textContent);
  event.target.textContent = "Copied";
  setTimeout(() => (event.target.textContent = "Copy"), 1500);
});

document.addEventListener("DOMContentLoaded", lookAgain);
