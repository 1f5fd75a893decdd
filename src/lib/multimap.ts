// A map from a key to several values that nearly always are one: a set of its own for each key would take ten times the room.

export class Multimap<K, V extends string | number> {
  readonly #values = new Map<K, V | Set<V>>();

  /** Adds one; what is there already stays. */
  add(key: K, value: V): void {
    const known = this.#values.get(key);
    if (known === undefined) this.#values.set(key, value);
    else if (known instanceof Set) known.add(value);
    else if (known !== value) this.#values.set(key, new Set([known, value]));
  }

  delete(key: K, value: V): void {
    const known = this.#values.get(key);
    if (known === value) this.#values.delete(key);
    else if (known instanceof Set) {
      known.delete(value);
      if (known.size === 0) this.#values.delete(key);
    }
  }

  has(key: K): boolean {
    return this.#values.has(key);
  }

  /** In the order of their addition. */
  get(key: K): readonly V[] {
    const known = this.#values.get(key);
    return known === undefined ? [] : known instanceof Set ? [...known] : [known];
  }

  clear(): void {
    this.#values.clear();
  }
}
