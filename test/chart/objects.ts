// Objects of manifests, as far as the tests of the chart look into them.
import { parseAllDocuments } from "yaml";

export interface ManifestObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  // biome-ignore lint/suspicious/noExplicitAny: what a test looks for in it is known to that test
  readonly [field: string]: any;
}

/** Every object of a manifest. @throws Error when it is no YAML */
export function objectsOf(text: string): ManifestObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const [problem] = document.errors;
    if (problem !== undefined) throw problem;
    // Anchors of the CRDs' schemas.
    return (document.toJS({ maxAliasCount: 1000 }) as ManifestObject | null) ?? [];
  });
}

/** @throws Error when there is none */
export function objectOf(objects: readonly ManifestObject[], kind: string, name: string): ManifestObject {
  const found = objects.find((one) => one.kind === kind && one.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}
