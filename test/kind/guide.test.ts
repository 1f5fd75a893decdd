// How commands are taken out of a guide. That they work is shown by `make kind`.
import { expect, it } from "vitest";
import { guideBlocks, readGuide } from "./guide.ts";

it("takes each block of sh under its heading, as it stands", () => {
  const page =
    "# T\n\n```sh\na\n```\n\n## One\n\n```yaml\nno: command\n```\n\n```sh\nb <<END\n  c\nEND\n```\n\n```\nsaid\n```\n";
  expect(guideBlocks(page)).toEqual([
    { heading: "", commands: "a\n" },
    { heading: "One", commands: "b <<END\n  c\nEND\n" },
  ]);
});

it("refuses a page without any", () => {
  expect(() => guideBlocks("# T\n\ntext\n")).toThrow("the page has no commands");
});

it("finds in kind's guide the way in and the way back", () => {
  const commands = readGuide("docs/install/kind.md").map((block) => `${block.heading}: ${block.commands}`);
  expect(commands[0]).toMatch(/^Install: make image\n/);
  expect(commands.at(-1)).toMatch(/^Back: [\s\S]*millrace uninstall --yes$/m);
});
