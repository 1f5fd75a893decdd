// Certificate authorities and what they sign, made by openssl in a directory of the test.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

export interface IssueOptions {
  readonly commonName: string;
  /** As openssl writes them: "DNS:localhost", "IP:127.0.0.1". */
  readonly names?: readonly string[];
  /** An hour from now when absent. */
  readonly notAfter?: Date;
}

export interface Authority {
  /** PEM. */
  readonly certificate: string;
  issue(options: IssueOptions): Certificate;
}

function openssl(args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** 20261121145123Z */
function asn1Time(date: Date): string {
  return `${date.toISOString().replace(/[-:T]|\..*/g, "")}Z`;
}

const CONFIG = (dir: string) => `
[ca]
default_ca = own
[own]
database = ${dir}/index
new_certs_dir = ${dir}
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
`;

export function createAuthority(parent: string, commonName: string): Authority {
  const dir = mkdtempSync(join(parent, "authority-"));
  const at = (name: string) => join(dir, name);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl([
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.crt"),
    "-days",
    "2",
    "-subj",
    `/CN=${commonName}`,
  ]);
  writeFileSync(at("config"), CONFIG(dir));
  writeFileSync(at("index"), "");

  return {
    certificate: readFileSync(at("ca.crt"), "utf8"),
    issue({ commonName: subject, names = [], notAfter = new Date(Date.now() + 3_600_000) }) {
      openssl(["req", "-new", ...newKey, "-keyout", at("key"), "-out", at("csr"), "-subj", `/CN=${subject}`]);
      writeFileSync(at("extensions"), names.length === 0 ? "" : `subjectAltName=${names.join(",")}\n`);
      const notBefore = new Date(Math.min(Date.now(), notAfter.getTime()) - 86_400_000);
      const dates = ["-startdate", asn1Time(notBefore), "-enddate", asn1Time(notAfter)];
      const files = [
        "-cert",
        at("ca.crt"),
        "-keyfile",
        at("ca.key"),
        "-in",
        at("csr"),
        "-out",
        at("crt"),
        "-extfile",
        at("extensions"),
      ];
      openssl(["ca", "-batch", "-notext", "-config", at("config"), ...dates, ...files]);
      return { certificate: readFileSync(at("crt"), "utf8"), key: readFileSync(at("key"), "utf8") };
    },
  };
}
