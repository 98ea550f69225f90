/** Subtitles, as the workers' own client writes them. */

/**
 * @typedef {Object} Part a piece of the text in the audio
 * @property {[number, number]} text its span in characters
 * @property {number} begin seconds
 * @property {number} end
 */

/**
 * SubRip.
 * @param {string} text
 * @param {Part[]} parts
 */
export function srt(text, parts) {
  return parts.map((part, i) => `${i + 1}\n${span(part, ",")}\n${said(text, part)}\n`).join("\n");
}

/**
 * WebVTT.
 * @param {string} text
 * @param {Part[]} parts
 */
export function vtt(text, parts) {
  const escaped = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return ["WEBVTT\n", ...parts.map((part) => `${span(part, ".")}\n${escaped(said(text, part))}\n`)].join("\n");
}

/** A part's text in one line; characters are those of Unicode, not of this language. */
const said = (text, part) => [...text].slice(...part.text).join("").trim().replace(/\s+/g, " ");

const span = (part, point) => `${time(part.begin, point)} --> ${time(part.end, point)}`;

/**
 * @param {number} seconds
 * @param {string} point before the milliseconds
 */
function time(seconds, point) {
  const moment = new Date(Math.round(1000 * seconds)).toISOString(); // 1970-01-01T00:00:01.500Z
  return moment.slice(11, 19) + point + moment.slice(20, 23);
}
