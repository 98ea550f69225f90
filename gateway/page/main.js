/** Puts the page together. */

import * as api from "./api.js";
import * as clone from "./clone.js";
import * as form from "./form.js";
import { Player } from "./player.js";
import * as status from "./status.js";
import * as subtitles from "./subtitles.js";
import { wav } from "./wav.js";
import { Wave } from "./wave.js";
import { say, switchLanguage, Trouble, word } from "./words.js";

const RATE = 24000;
const $ = (id) => document.getElementById(id);

/** Fields of the page by what the gateway calls them for a voice that is kept. @type {Record<string, string>} */
const FIELDS = { recording: "reference", transcript: "reference_text" };

/**
 * @typedef {Object} Utterance
 * @property {Record<string, string>} set what the form said, with the seed
 * @property {Record<string, string>} fields of the request
 * @property {Player} player
 * @property {AbortController} making
 * @property {subtitles.Part[]} parts
 */

/** @type {Utterance | null} */
let utterance = null;
let isMaking = false;
const wave = new Wave($("wave"));

async function speak() {
  form.clearErrors();
  utterance?.player.close();
  const set = form.fields();
  const seed = set.seed ?? form.anySeed();
  const { seed: _, ...chosen } = set;
  const player = new Player(RATE, show);
  const making = new AbortController();
  utterance = { set: { ...set, seed }, fields: chosen, player, making, parts: [] };
  setMaking(true);
  $("player").hidden = false;
  $("keepsakes").hidden = true;
  wave.clear();
  say($("told"), "asked");
  show();
  try {
    Object.assign(utterance.fields, await clone.recordingFields(), { sample_rate: RATE });
    await hear(utterance);
  } catch (error) {
    giveUp(error);
  } finally {
    player.complete();
    setMaking(false);
    show();
  }
}

/** @param {Utterance} utterance */
async function hear(utterance) {
  const { fields, set, player, making } = utterance;
  performance.clearMarks();
  performance.mark("speech-asked");
  const since = () => performance.measure("speech", "speech-asked").duration;
  let ms = 0;
  for await (const event of api.speech(fields, set.seed, making.signal)) {
    if (event.type === "speech.audio.delta") {
      wave.add(player.add(bytes(event.audio)), RATE);
      if (!ms) {
        performance.mark("speech-first");
        ms = Math.ceil(since());
        say($("told"), "sounds", { ms });
      }
      show();
    } else {
      performance.mark("speech-done");
      utterance.parts = event.parts ?? [];
      const took = (since() / 1000).toFixed(1);
      say($("told"), "done", { ms, took, seconds: player.length.toFixed(1) });
      $("keepsakes").hidden = false;
    }
  }
}

/** @param {unknown} error */
function giveUp(error) {
  if (error.name === "AbortError") {
    say($("told"), "stopped");
    return;
  }
  $("player").hidden = !utterance.player.length;
  delete $("told").dataset.word;
  $("told").textContent = "";
  fail(error);
}

/** @param {unknown} error */
function fail(error) {
  if (error instanceof Trouble) {
    form.showTrouble("", error.message);
  } else if (!(error instanceof api.ApiError)) {
    throw error;
  } else if (error.status === 401) {
    askForKey(error);
  } else {
    form.showError(FIELDS[error.param] ?? error.param, error.message);
  }
}

/** @param {api.ApiError} error */
function askForKey(error) {
  if ($("key").hidden) {
    $("key").hidden = false;
  } else {
    form.showError("key", error.message);
  }
}

function stop() {
  utterance.making.abort();
  utterance.player.pause();
}

/** @param {boolean} making */
function setMaking(making) {
  isMaking = making;
  say($("speak"), making ? "stop" : "speak");
  $("speak").classList.toggle("stop", making);
}

/** Show where the speech is, again and again while it moves. */
function show() {
  const { player } = utterance;
  const [at, length] = [player.position, player.length].map((seconds) => seconds.toFixed(1));
  wave.draw(player.position, !isMaking);
  Object.assign($("position"), { max: wave.span(!isMaking), value: at });
  $("position").setAttribute("aria-valuetext", word("at", { at, length }));
  $("time").textContent = `${clock(player.position)} / ${clock(player.length)}`;
  const next = player.playing ? "pause" : "play";
  $("play").className = `round ${next}`;
  $("play").setAttribute("aria-label", word(next));
}

function animate() {
  if (utterance?.player.playing) show();
  requestAnimationFrame(animate);
}

/** @param {number} seconds */
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** @param {string} base64 */
const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

async function download() {
  const { fields, set, player } = utterance;
  const format = $("format").value;
  if (format === "wav") {
    save(wav(player.samples, RATE), format);
    return;
  }
  const { sample_rate: _, ...rest } = fields; // which not every format has
  const told = { ...$("told").dataset };
  say($("told"), "making");
  try {
    save(await api.speechFile(rest, set.seed, format), format);
  } finally {
    say($("told"), told.word, told);
  }
}

/**
 * @param {Blob} blob
 * @param {string} suffix
 */
function save(blob, suffix) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = `speech-${utterance.set.seed}.${suffix}`;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
}

/** @param {"srt" | "vtt"} kind */
function saveSubtitles(kind) {
  const written = subtitles[kind](utterance.fields.input ?? "", utterance.parts);
  save(new Blob([written], { type: kind === "vtt" ? "text/vtt" : "application/x-subrip" }), kind);
}

async function copyLink() {
  history.replaceState(null, "", form.link(utterance.set));
  const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  say($("told"), copied ? "copied" : "link_address");
}

function writeAll() {
  form.writeFields();
  $("passage").textContent = word("passage");
  say($("language"), "other");
  $("language").lang = document.documentElement.lang === "en" ? "zh-CN" : "en";
  status.draw();
  if (utterance) show();
}

async function offerVoices() {
  form.offerVoices(await api.voices());
}

async function start() {
  form.offerVoices({ kept: [], named: [] });
  setMaking(false);
  clone.begin(fail, offerVoices);
  writeAll();
  status.watch(() => offerVoices().catch(fail), (error) => error.status === 401 && $("key").hidden && askForKey(error));
  animate();
  form.offer(await api.accepted());
  writeAll();
  await offerVoices().catch(fail);
  form.restore();
}

/** @param {string} name of its words */
const example = (name) => () => {
  $("input").value = word(name);
};

$("speech").addEventListener("submit", (event) => {
  event.preventDefault();
  if (isMaking) stop();
  else speak().catch(fail);
});
$("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !isMaking) $("speech").requestSubmit();
});
$("sentence").addEventListener("click", example("sentence_text"));
$("story").addEventListener("click", example("story_text"));
$("play").addEventListener("click", () => (utterance.player.playing ? utterance.player.pause() : utterance.player.play()));
$("position").addEventListener("input", () => utterance.player.seek(Number($("position").value)));
$("download").addEventListener("click", () => download().catch(fail));
$("srt").addEventListener("click", () => saveSubtitles("srt"));
$("vtt").addEventListener("click", () => saveSubtitles("vtt"));
$("link").addEventListener("click", copyLink);
$("language").addEventListener("click", () => {
  switchLanguage();
  writeAll();
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useKey($("key-field").value.trim());
  form.clearErrors();
  offerVoices().then(() => {
    $("key").hidden = true;
    form.restore();
  }, fail);
});
addEventListener("hashchange", form.restore);
addEventListener("resize", () => utterance && show());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => utterance && show());

start().catch(fail);
