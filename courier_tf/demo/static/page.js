"use strict";
// Texts are set as text and never as HTML: ids and titles come from a log.

const byId = (id) => document.getElementById(id);
const shown = { view: null, history: [], candidates: [], clicked: new Set(), ranked: [], chosen: null };
const items = new Map();
let asked = 0; // Answers to all rankings but the last are out of date.

function element(tag, words, ...classes) {
  const made = document.createElement(tag);
  if (words !== undefined) made.textContent = words;
  if (classes.length) made.className = classes.join(" ");
  return made;
}

function tell(words) { byId("message").textContent = words; }

async function ask(address, options) {
  const answer = await fetch(address, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || answer.statusText);
  for (const [id, item] of Object.entries(content.items || {})) items.set(id, item);
  return content;
}

function guarded(action) {
  return async (...given) => {
    try {
      tell("");
      await action(...given);
    } catch (error) {
      tell(error.message);
    }
  };
}

function nameOf(id) {
  const item = items.get(id) || { title: "" };
  return item.title || id;
}

function card(id) {
  const item = items.get(id) || { title: "", category: "" };
  const made = element("li", undefined, "card");
  made.draggable = true;
  made.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/plain", id));
  const photo = element("img");
  photo.alt = `photo of ${nameOf(id)}`;
  photo.src = `photo?item=${encodeURIComponent(id)}`;
  photo.addEventListener("error", () => photo.replaceWith(element("span", "no photo", "bare")));
  photo.draggable = false;
  made.append(photo, element("span", [item.title, item.category].filter(Boolean).join(", ") || id, "title"));
  return made;
}

function button(words, label, action) {
  const made = element("button", words);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

function withAdd(id) {
  const made = card(id);
  made.append(button("add to history", `add ${nameOf(id)} to the history`, () => add(id)));
  return made;
}

function add(id) {
  shown.history = [...shown.history, id];
  rank();
}

function removeAt(place) {
  shown.history = shown.history.filter((_, other) => other !== place);
  rank();
}

function effectOf(place, largest) {
  const chosen = shown.ranked.find((candidate) => candidate.item === shown.chosen);
  if (!chosen) return null;
  const effect = chosen.effects[place];
  const made = element("span", (effect >= 0 ? "+" : "−") + Math.abs(effect).toFixed(2), "effect", effect >= 0 ? "up" : "down");
  const bar = element("span", undefined, "bar");
  bar.style.width = `${Math.round((100 * Math.abs(effect)) / Math.max(largest, 0.05))}%`;
  made.append(bar);
  return made;
}

function showHistory() {
  const chosen = shown.ranked.find((candidate) => candidate.item === shown.chosen);
  const largest = chosen ? Math.max(0, ...chosen.effects.map(Math.abs)) : 0;
  byId("history").replaceChildren(
    ...shown.history.map((id, place) => {
      const made = card(id);
      const effect = effectOf(place, largest);
      if (effect) made.append(effect);
      made.append(button("remove", `remove ${nameOf(id)} from the history`, () => removeAt(place)));
      return made;
    }),
  );
}

function placeWithout(candidate, place) {
  const moved = candidate.place_without - place;
  const words = moved > 0 ? `▲ ${moved}` : moved < 0 ? `▼ ${-moved}` : "same place";
  const made = element("span", `without photos ${candidate.place_without}. `, "effect");
  made.append(element("span", words, moved > 0 ? "up" : moved < 0 ? "down" : "title"));
  return made;
}

function showRanking() {
  byId("ranking").replaceChildren(
    ...shown.ranked.map((candidate, index) => {
      const place = index + 1;
      const made = card(candidate.item);
      if (shown.clicked.has(candidate.item)) made.classList.add("clicked");
      if (candidate.item === shown.chosen) made.classList.add("chosen");
      made.append(element("span", `${place}. ${(100 * candidate.probability).toFixed(1)} %`, "effect"));
      if (candidate.place_without !== null) made.append(placeWithout(candidate, place));
      if (shown.clicked.has(candidate.item)) made.append(element("span", "clicked", "effect", "up"));
      const why = button("why?", `why is ${nameOf(candidate.item)} at place ${place}?`, () => choose(candidate.item));
      why.setAttribute("aria-pressed", candidate.item === shown.chosen);
      made.append(why, button("add to history", `add ${nameOf(candidate.item)} to the history`, () => add(candidate.item)));
      return made;
    }),
  );
  showHistory();
}

function choose(id) {
  shown.chosen = shown.chosen === id ? null : id;
  showRanking();
  const chosen = shown.ranked.find((candidate) => candidate.item === shown.chosen);
  if (!chosen) {
    byId("told").textContent = "";
    return;
  }
  const most = chosen.effects.reduce((best, effect, place) => (effect > chosen.effects[best] ? place : best), 0);
  byId("told").textContent = shown.history.length && chosen.effects[most] > 0
    ? `${nameOf(id)}: of the history, ${nameOf(shown.history[most])} adds most to its log odds (+${chosen.effects[most].toFixed(2)}).`
    : `${nameOf(id)}: nothing of the history adds to its log odds.`;
}

const rank = guarded(async () => {
  const number = ++asked;
  showHistory();
  const answer = await ask("rank", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user: shown.view.user, history: shown.history, candidates: shown.candidates }),
  });
  if (number !== asked) return;
  shown.ranked = answer.ranked;
  const first = shown.ranked[0];
  const compared = first.place_without !== null;
  byId("legend").textContent =
    "Click probability by the served ranker." +
    (compared ? " Below it stands the place that a ranker without photos gives, and how far the photos moved the item." : "") +
    " Items with a green frame were clicked in the log.";
  byId("told").textContent = `First is ${nameOf(first.item)} with ${(100 * first.probability).toFixed(1)} %.`;
  showRanking();
});

function start() {
  shown.history = [...shown.view.history];
  shown.candidates = shown.view.candidates;
  shown.clicked = new Set(shown.view.candidates.filter((_, place) => shown.view.clicked[place]));
  shown.chosen = null;
  return rank();
}

const search = guarded(async (event) => {
  event.preventDefault();
  const answer = await ask(`search?words=${encodeURIComponent(byId("words").value)}`);
  byId("hits").replaceChildren(...answer.ids.map(withAdd));
  if (!answer.ids.length) byId("hits").append(element("li", "No item has these words."));
});

const upload = guarded(async () => {
  const [file] = byId("file").files;
  if (!file) return;
  const form = new FormData();
  form.append("photo", file);
  byId("uploaded").hidden = true;
  const answer = await ask("similar", { method: "POST", body: form });
  byId("cluster").textContent = `The photo belongs to cluster ${answer.cluster}.`;
  byId("nearest").replaceChildren(
    ...answer.nearest.map((id, place) => {
      const made = withAdd(id);
      made.insertBefore(element("span", `cosine ${answer.cosines[place].toFixed(3)}`, "effect"), made.lastChild);
      return made;
    }),
  );
  byId("members").replaceChildren(...answer.members.map(withAdd));
  byId("uploaded").hidden = false;
});

function makeDropZone() {
  const zone = byId("history");
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const id = event.dataTransfer.getData("text/plain");
    if (items.has(id)) add(id);
  });
}

guarded(async () => {
  const { views } = await ask("views");
  for (const view of views) for (const [id, item] of Object.entries(view.items)) items.set(id, item);
  byId("view").replaceChildren(
    ...views.map((view, number) => {
      const made = element("option", `${view.user}: ${view.history.length} in the history, ${view.candidates.length} candidates`);
      made.value = number;
      return made;
    }),
  );
  byId("view").addEventListener("change", () => { shown.view = views[byId("view").value]; start(); });
  byId("reset").addEventListener("click", start);
  byId("search").addEventListener("submit", search);
  byId("file").addEventListener("change", upload);
  makeDropZone();
  shown.view = views[0];
  await start();
})();
