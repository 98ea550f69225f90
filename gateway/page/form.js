/** The fields of a request: what they offer, what is set, as a link and back, and what is wrong with them. */

import { say, word, writeWords } from "./words.js";

const $ = (id) => document.getElementById(id);

/** The choice of the recording, which is no id. */
export const RECORDING = "*recording";

const LARGEST = 2 ** 32;

/** @param {import("./api.js").Accepted} accepted */
export function offer(accepted) {
  const attributes = Object.entries(accepted.attributes).map(([name, values]) => {
    const select = document.createElement("select");
    select.append(choice("", "any"), ...values.map(valueChoice));
    return labelled(name, select);
  });
  const seed = Object.assign(document.createElement("input"), { inputMode: "numeric", autocomplete: "off" });
  $("attributes").replaceChildren(...attributes, labelled("seed", seed));
  $("format").replaceChildren(...accepted.formats.map((format) => new Option(format, format)));
  $("format").value = "wav";
}

/** @param {{kept: string[], named: string[]}} voices */
export function offerVoices({ kept, named }) {
  const chosen = $("voice").value;
  const recording = recordingChoice() ?? choice(RECORDING, "recorded");
  recording.hidden = recording.disabled = recording.hidden || !recording.isConnected;
  const groups = [group("kept_voices", kept), group("named_voices", named)];
  $("voice").replaceChildren(choice("", "described"), recording, ...groups.filter((one) => one.children.length));
  choose(chosen);
}

const recordingChoice = () => [...$("voice").options].find((one) => one.value === RECORDING);

/**
 * Choose a voice, if there is such a one.
 * @param {string} voice
 */
export function choose(voice) {
  const option = [...$("voice").options].find((one) => one.value === voice);
  if (option) option.selected = true;
}

/**
 * Whether the recording can be chosen.
 * @param {boolean} there
 */
export function offerRecording(there) {
  const option = recordingChoice();
  option.hidden = option.disabled = !there;
  if (there || $("voice").value === RECORDING) choose(there ? RECORDING : "");
}

/** What is set, by the names of the API; the recording is not among it. */
export function fields() {
  const set = [...$("speech").querySelectorAll("[name]")].map((field) => [field.name, field.value.trim()]);
  return Object.fromEntries(set.filter(([, value]) => value && value !== RECORDING));
}

/** A seed for those who set none. */
export const anySeed = () => String(Math.floor(Math.random() * LARGEST));

/**
 * The address of this page with everything that is set.
 * @param {Record<string, string>} set
 */
export const link = (set) => `${location.href.split("#")[0]}#${new URLSearchParams(set)}`;

/** Set what the address says. */
export function restore() {
  const set = new URLSearchParams(location.hash.slice(1));
  if (![...set].length) return;
  for (const field of $("speech").querySelectorAll("[name]")) {
    if (field instanceof HTMLSelectElement) field.value = "";
    const value = set.get(field.name) ?? "";
    if (field === $("voice")) choose(value);
    else field.value = value;
    if (field instanceof HTMLSelectElement && field.selectedIndex < 0) field.selectedIndex = 0;
  }
}

/** Nothing is wrong any more. */
export function clearErrors() {
  for (const line of document.querySelectorAll(".error")) {
    delete line.dataset.word;
    line.textContent = "";
  }
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

/**
 * Say what is wrong beside the field, or below all if it is none of them.
 * @param {string} param the field
 * @param {string} message the gateway's line
 */
export function showError(param, message) {
  const line = errorLine(param);
  delete line.dataset.word;
  line.lang = "en";
  line.textContent = message;
}

/**
 * The same for what goes wrong on this side.
 * @param {string} param
 * @param {string} name of a word
 */
export function showTrouble(param, name) {
  const line = errorLine(param);
  line.removeAttribute("lang");
  say(line, name);
}

/** @param {string} param */
function errorLine(param) {
  const line = $(`error-${param}`);
  if (!line) return $("error-");
  $(param)?.setAttribute("aria-invalid", "true");
  $(param)?.focus();
  return line;
}

/**
 * @param {string} name
 * @param {HTMLElement} field
 */
function labelled(name, field) {
  const [box, label, error] = ["div", "label", "p"].map((kind) => document.createElement(kind));
  Object.assign(field, { id: name, name });
  field.setAttribute("aria-describedby", `error-${name}`);
  Object.assign(label, { htmlFor: name });
  label.dataset.word = name;
  Object.assign(error, { id: `error-${name}`, className: "error" });
  box.className = "field";
  box.append(label, field, error);
  return box;
}

/**
 * @param {string} value
 * @param {string} named one of the page's words
 */
function choice(value, named) {
  const option = new Option(word(named), value);
  option.dataset.word = named;
  return option;
}

/** @param {string} value */
function valueChoice(value) {
  const option = new Option(value, value);
  option.dataset.value = value;
  return option;
}

/**
 * @param {string} named
 * @param {string[]} ids
 */
function group(named, ids) {
  const box = document.createElement("optgroup");
  box.label = word(named);
  box.dataset.group = named;
  box.append(...ids.map((id) => new Option(id, id)));
  return box;
}

/** Write all words of the fields. */
export function writeFields() {
  writeWords();
  for (const box of document.querySelectorAll("[data-group]")) box.label = word(box.dataset.group);
  $("input").placeholder = word("placeholder");
  if ($("seed")) $("seed").placeholder = word("seed_hint");
}
