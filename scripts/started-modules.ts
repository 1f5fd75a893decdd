// Modules that are started by their file, as threads or processes: `new URL("./x.ts", import.meta.url)`. Whoever bundles has to
// find them, and to say where the bundle lies instead.

const MODULE_URL = /new URL\(([^;]*?),\s*import\.meta\.url,?\s*\)/g;
const MODULE_FILE = /"(\.{1,2}\/[^"]+)\.[jt]s"/g;

/** Their paths in `code`, relative to its file, without ending. */
export function startedFiles(code: string): string[] {
  const expressions = [...code.matchAll(MODULE_URL)].map(([, expression = ""]) => expression);
  return expressions.flatMap((expression) => [...expression.matchAll(MODULE_FILE)].map(([, path = ""]) => path));
}

/** `code` with the URLs that `replacement` gives for their paths; undefined leaves one as it is. */
export function replaceStarted(code: string, replacement: (path: string) => string | undefined): string {
  return code.replace(MODULE_URL, (expression) =>
    expression.replace(MODULE_FILE, (literal, path: string) => {
      const url = replacement(path);
      return url === undefined ? literal : JSON.stringify(url);
    }),
  );
}
