// A 53-bit hash of what an object means to us, in one number. It tells whether an object changed; it is no defence
// against whoever makes two contents of his own object collide on purpose.

export class ContentHash {
  #low = 0x811c9dc5;
  #high = 0x2545f491;

  /** Texts are delimited: ("ab", "c") and ("a", "bc") differ. */
  text(text: string): void {
    let low = this.#low;
    let high = this.#high;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      low = Math.imul(low ^ code, 0x01000193);
      high = Math.imul(high ^ code, 0x5bd1e995);
      high ^= high >>> 15;
    }
    this.#low = Math.imul(low ^ 0x1f0001, 0x01000193);
    this.#high = Math.imul(high ^ text.length ^ 0x1f0000, 0x5bd1e995);
  }

  number(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 0x01000193);
    this.#high = Math.imul(this.#high ^ value, 0x5bd1e995) ^ (value >>> 7);
  }

  value(): number {
    const mixed = Math.imul(this.#low ^ (this.#low >>> 16), 0x7feb352d);
    const low = (mixed ^ (mixed >>> 15)) >>> 0;
    return ((this.#high ^ low) & 0x1fffff) * 0x1_0000_0000 + low;
  }
}

export function hashText(text: string): number {
  const hash = new ContentHash();
  hash.text(text);
  return hash.value();
}
