// Answers as YAML. A file of its own, so that the library is loaded only where it is asked for.
import { stringify } from "yaml";

export function yamlText(value: unknown): string {
  return stringify(value, { lineWidth: 0 });
}
