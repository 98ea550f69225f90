/** Shows what the workers do: a cell for every row of the batch. */

import * as api from "./api.js";
import { word } from "./words.js";

const EVERY = 1000;
const $ = (id) => document.getElementById(id);

/**
 * @typedef {Object} Status
 * @property {{depth: number, estimated_wait: number | null}} queue
 * @property {{rows: number | null, most_rows: number | null, audio_seconds_per_second: number | null}[]} workers
 * @property {number} rows
 * @property {number} max_rows
 */

/** @type {Status | null} */
let last = null;

/**
 * Ask every second, as long as somebody can see it.
 * @param {() => void} onWorkers there are more of them, or fewer
 * @param {(error: unknown) => void} onError
 */
export async function watch(onWorkers, onError) {
  for (;;) {
    if (document.visibilityState === "visible") await look(onWorkers, onError);
    await new Promise((next) => setTimeout(next, EVERY));
  }
}

/**
 * @param {() => void} onWorkers
 * @param {(error: unknown) => void} onError
 */
async function look(onWorkers, onError) {
  const now = await api.status().catch((error) => {
    $("rows").textContent = error instanceof api.ApiError ? "" : word("unreachable");
    onError(error);
  });
  if (!now) return;
  const changed = last && last.workers.length !== now.workers.length;
  last = now;
  draw();
  if (changed) onWorkers();
}

/** Draw it again, in the language that there is now. */
export function draw() {
  if (!last) return;
  const { queue, workers, rows, max_rows: all } = last;
  $("rows").textContent = workers.length ? word("rows", { busy: rows, all }) : word("no_worker");
  while ($("workers").children.length > workers.length) $("workers").lastChild.remove();
  workers.forEach(drawWorker);
  const made = workers.reduce((sum, worker) => sum + (worker.audio_seconds_per_second ?? 0), 0);
  const wait = queue.estimated_wait;
  drawFigures([
    ["workers", String(workers.length)],
    ["waiting", String(queue.depth)],
    ["wait", wait === null ? "–" : word("seconds", { n: figure(wait) })],
    ["speed_now", made ? word("a_second", { n: figure(made) }) : "–"],
  ]);
}

/**
 * @param {Status["workers"][0]} worker
 * @param {number} i
 */
function drawWorker(worker, i) {
  const [busy, all] = [worker.rows ?? 0, worker.most_rows ?? 0];
  const cells = $("workers").children[i] ?? $("workers").appendChild(document.createElement("div"));
  const columns = all <= 32 ? 8 : all <= 128 ? 16 : 32;
  cells.className = columns > 16 ? "cells small" : "cells";
  cells.style.setProperty("--columns", String(columns));
  cells.setAttribute("role", "img");
  cells.setAttribute("aria-label", word("worker", { number: i + 1, busy, all }));
  while (cells.children.length > all) cells.lastChild.remove();
  while (cells.children.length < all) cells.append(document.createElement("i"));
  [...cells.children].forEach((cell, row) => cell.classList.toggle("lit", row < busy));
}

/** @param {[string, string][]} figures */
function drawFigures(figures) {
  $("load").replaceChildren(
    ...figures.map(([name, told]) => {
      const [pair, term, value] = ["div", "dt", "dd"].map((kind) => document.createElement(kind));
      term.textContent = word(name);
      value.textContent = told;
      pair.append(term, value);
      return pair;
    }),
  );
}

/** @param {number} n */
const figure = (n) => (n < 10 ? Math.round(10 * n) / 10 : Math.round(n));
