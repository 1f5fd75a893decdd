// Changes with their way back, so that whatever a run has left can be taken back by whoever knows nothing of it.

export class Undo {
  readonly #back = new Map<string, () => Promise<unknown>>();

  /** `back` is called once, by `take` or by `restore`, also when `put` failed half way. */
  async put(name: string, put: () => Promise<unknown>, back: () => Promise<unknown>): Promise<void> {
    this.#back.set(name, back);
    await put();
  }

  /** Does nothing when there is no such change. */
  async take(name: string): Promise<void> {
    const back = this.#back.get(name);
    this.#back.delete(name);
    await back?.();
  }

  /** Takes back everything, the newest first. */
  async restore(): Promise<void> {
    for (const name of [...this.#back.keys()].reverse()) await this.take(name);
  }
}
