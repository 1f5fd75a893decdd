// What a directory holds.
import { readdirSync } from "node:fs";

/** Names in it; none when it is not there, or cannot be read. */
export function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
