/** A recording: made, chosen or dropped; spoken with at once, or kept as a voice. */

import * as api from "./api.js";
import * as form from "./form.js";
import { Recorder } from "./recorder.js";
import { say, Trouble, word } from "./words.js";
import { Wave } from "./wave.js";

const LARGEST = 8 << 20;
const LONGEST_SECONDS = 30;
const $ = (id) => document.getElementById(id);

/** @type {Blob | null} */
let recording = null;
/** @type {Recorder | null} */
let recorder = null;
const level = new Wave($("level"));

/** The fields of a request that speak with the recording, if it is chosen. */
export async function recordingFields() {
  if ($("voice").value !== form.RECORDING) return {};
  const said = $("reference_text").value.trim();
  return { reference: await dataUrl(recording), ...(said ? { reference_text: said } : {}) };
}

/**
 * @param {(error: unknown) => void} fail
 * @param {() => Promise<void>} onKept
 */
export function begin(fail, onKept) {
  const guarded = (work) => (event) => {
    event.preventDefault();
    form.clearErrors();
    work(event).catch(fail);
  };
  say($("record"), "record");
  $("record").addEventListener("click", guarded(() => (recorder ? endRecording() : beginRecording())));
  $("file").addEventListener("change", guarded(async () => take($("file").files[0], "")));
  $("discard").addEventListener("click", guarded(async () => take(null, "")));
  $("keep").addEventListener("submit", guarded(() => keep(onKept)));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", guarded(async (event) => event.dataTransfer.files[0] && take(event.dataTransfer.files[0], "")));
}

async function beginRecording() {
  level.clear();
  recorder = await Recorder.begin((samples, rate) => level.add(samples, rate)).catch((error) => {
    form.showTrouble("reference", error.message);
    return null;
  });
  if (!recorder) return;
  say($("record"), "record_stop");
  $("record").classList.add("recording");
  $("level").hidden = false;
  drawLevel();
}

function drawLevel() {
  if (!recorder) return;
  level.draw(Infinity, false);
  const told = word("recording", { seconds: Math.floor(recorder.seconds) });
  if ($("recording-told").textContent !== told) $("recording-told").textContent = told;
  if (recorder.seconds >= LONGEST_SECONDS) endRecording();
  else requestAnimationFrame(drawLevel);
}

async function endRecording() {
  const ended = recorder;
  recorder = null;
  say($("record"), "record");
  $("record").classList.remove("recording");
  $("recording-told").textContent = "";
  $("level").hidden = true;
  take(await ended.end(), word("passage"));
}

/**
 * Take a recording, or none.
 * @param {Blob | null} taken
 * @param {string} said in it, as far as one can tell
 */
function take(taken, said) {
  if (taken && taken.size > LARGEST) {
    form.showTrouble("reference", "too_large");
    return;
  }
  URL.revokeObjectURL($("preview").src);
  recording = taken;
  $("file").value = "";
  $("kept").textContent = "";
  $("reference_text").value = said;
  $("recorded").hidden = !taken;
  if (taken) $("preview").src = URL.createObjectURL(taken);
  else $("preview").removeAttribute("src");
  form.offerRecording(taken !== null);
}

/** @param {() => Promise<void>} onKept */
async function keep(onKept) {
  const name = $("name").value.trim();
  say($("kept"), "keeping");
  try {
    await api.keepVoice(name, recording, $("reference_text").value.trim(), $("consent").checked);
  } catch (error) {
    delete $("kept").dataset.word;
    $("kept").textContent = "";
    throw error;
  }
  await onKept();
  form.choose(name);
  say($("kept"), "kept", { name });
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
function dataUrl(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result));
    reader.onerror = () => failed(new Trouble("unreadable"));
    reader.readAsDataURL(blob);
  });
}
