import { describe, expect, it } from "vitest";
import { parseLabelQuery } from "../../src/http/label-query.ts";

const LABELS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  web: { app: "web", tier: "front", "app.kubernetes.io/name": "web" },
  db: { app: "db", env: "prod" },
  bare: {},
};

describe("a label selector", () => {
  it.each([
    ["app=web", "web"],
    ["app==web", "web"],
    ["app!=web", "db bare"],
    ["app = db , env=prod", "db"],
    ["app in (web, db)", "web db"],
    ["app in (web,db),env", "db"],
    ["app notin (web)", "db bare"],
    ["!app", "bare"],
    ["tier", "web"],
    ["app.kubernetes.io/name=web", "web"],
    ["app=", ""],
    ["constructor", ""],
  ])("'%s' matches '%s'", (text, names) => {
    const matches = parseLabelQuery(text);
    expect(Object.keys(LABELS).filter((name) => matches(LABELS[name]!))).toEqual(names.split(" ").filter(Boolean));
  });

  it.each(["", ",", "app=web,", "app in", "app in ()x", "app=(a)", "=web", "a b"])("'%s' is refused", (text) => {
    expect(() => parseLabelQuery(text)).toThrow(/^selector must be a label selector, as /);
  });
});
