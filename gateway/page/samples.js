/** Samples of one channel that become more. */
export class Samples {
  #all = new Int16Array(1 << 16);
  #half = new Uint8Array(0);
  length = 0;

  /** @param {Int16Array} more */
  add(more) {
    if (this.length + more.length > this.#all.length) {
      const larger = new Int16Array(2 * (this.length + more.length));
      larger.set(this.all());
      this.#all = larger;
    }
    this.#all.set(more, this.length);
    this.length += more.length;
  }

  /**
   * Add samples as they come: pieces may end in the middle of one.
   * @param {Uint8Array} bytes
   * @returns {Int16Array} those that are whole
   */
  addBytes(bytes) {
    const joined = new Uint8Array(this.#half.length + bytes.length);
    joined.set(this.#half);
    joined.set(bytes, this.#half.length);
    const whole = new Int16Array(joined.buffer, 0, joined.length >> 1);
    this.#half = joined.slice(2 * whole.length);
    this.add(whole);
    return whole;
  }

  all() {
    return this.#all.subarray(0, this.length);
  }
}
