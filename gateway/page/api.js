/** The gateway, as the page asks it. */

import { Trouble } from "./words.js";

const KEY = "rwkv-tts-key";

/** What the gateway refuses, in its own line. */
export class ApiError extends Error {
  /**
   * @param {number} status of HTTP
   * @param {{message: string, param: string | null}} error
   */
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.param = error.param ?? "";
  }
}

/** @param {string} key */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} one that is well
 */
async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { ...options, headers }).catch((error) => {
    throw error.name === "AbortError" ? error : new Trouble("unreachable");
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new ApiError(answer.status, told?.error ?? { message: `${answer.status} ${answer.statusText}`, param: null });
}

/** @param {string} path */
const read = async (path) => (await ask(path)).json();

/**
 * @typedef {Object} Accepted what the gateway takes, by its own document
 * @property {Record<string, string[]>} attributes
 * @property {string[]} formats
 */

/** @returns {Promise<Accepted>} */
export async function accepted() {
  const fields = (await read("openapi.json")).components.schemas.Speech.properties;
  /** @param {{enum?: unknown[], anyOf?: {enum?: unknown[]}[]}} field */
  const values = (field) => [field, ...(field.anyOf ?? [])].flatMap((one) => one.enum ?? []).filter(Boolean);
  const names = ["gender", "age", "emotion", "pitch", "speed"];
  return {
    attributes: Object.fromEntries(names.map((name) => [name, values(fields[name])])),
    formats: values(fields.response_format).filter((format) => format !== "pcm"),
  };
}

/** @returns {Promise<{kept: string[], named: string[]}>} */
export async function voices() {
  const all = (await read("v1/audio/voices")).voices.map((voice) => voice.id);
  const kept = (await read("v1/voices")).data.map((voice) => voice.id);
  return { kept, named: all.filter((id) => !kept.includes(id)) };
}

export const status = () => read("v1/status");

/**
 * A request as JSON; its seed may be larger than the numbers of this language.
 * @param {Record<string, unknown>} fields
 * @param {string} seed
 */
function written(fields, seed) {
  const number = /^\d+$/.test(seed) ? BigInt(seed) : JSON.stringify(seed); // which the gateway refuses
  return `${JSON.stringify(fields).slice(0, -1)},"seed":${number}}`;
}

/**
 * @param {Record<string, unknown>} fields
 * @param {string} seed
 * @param {AbortSignal} [signal]
 */
function speak(fields, seed, signal) {
  const headers = { "content-type": "application/json" };
  return ask("v1/audio/speech", { method: "POST", headers, body: written(fields, seed), signal });
}

/**
 * Have something spoken, and hear of it while it is made.
 * @param {Record<string, unknown>} fields of the request
 * @param {string} seed
 * @param {AbortSignal} signal which cancels the job
 * @returns {AsyncGenerator<Record<string, any>>} OpenAI's events
 */
export async function* speech(fields, seed, signal) {
  const wanted = { ...fields, response_format: "pcm", stream_format: "sse", timestamps: true };
  const answer = await speak(wanted, seed, signal);
  let rest = "";
  let type = "";
  for await (const text of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
    const lines = (rest + text).split("\n\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line.slice("data: ".length));
      if (event.type === "error") throw new ApiError(answer.status, event.error);
      type = event.type;
      yield event;
    }
  }
  if (type !== "speech.audio.done") throw new Trouble("broken");
}

/**
 * Not every browser iterates over a stream.
 * @param {ReadableStream<string>} stream
 */
async function* chunks(stream) {
  const reader = stream.getReader();
  const next = () =>
    reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Trouble("broken");
    });
  for (let piece = await next(); !piece.done; piece = await next()) yield piece.value;
}

/**
 * The same speech as a file.
 * @param {Record<string, unknown>} fields
 * @param {string} seed
 * @param {string} format
 */
export async function speechFile(fields, seed, format) {
  return (await speak({ ...fields, response_format: format, stream: false }, seed)).blob();
}

/**
 * Clone a voice, and keep it.
 * @param {string} name
 * @param {Blob} recording
 * @param {string} transcript
 * @param {boolean} consent of whose voice it is
 */
export async function keepVoice(name, recording, transcript, consent) {
  const form = new FormData();
  form.set("name", name);
  form.set("recording", recording, "recording");
  form.set("consent", String(consent));
  if (transcript) form.set("transcript", transcript);
  await ask("v1/voices", { method: "POST", body: form });
}
