// Client certificates that end within the minute: openssl's `req` counts in days, so `ca` signs them, which takes a date.
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { runChecked } from "../../../src/lab/shell.ts";
import type { Authority, Certificate } from "../certificates.ts";

const CONFIGURATION = `[ca]
default_ca = short
[short]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = client
unique_subject = no
[any]
commonName = supplied
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
`;

/** `20261121153000Z` */
function timeOf(ms: number): string {
  return new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, "");
}

/**
 * Writes a certificate and a fresh key for `user` to `files`, by rename, the key first. It is valid until `endMs`, milliseconds
 * since the epoch, cut to seconds.
 */
export async function issueUntil(authority: Authority, user: string, endMs: number, files: Certificate): Promise<void> {
  mkdirSync(dirname(files.certificate), { recursive: true });
  // Beside them: a rename does not cross file systems.
  const directory = mkdtempSync(join(dirname(files.certificate), "issue-"));
  const at = (name: string): string => join(directory, name);
  const keep = at("ca.cnf");
  try {
    writeFileSync(
      keep,
      CONFIGURATION.replaceAll(/= (index|serial|\.)$/gm, (_, name) => `= ${join(directory, name)}`),
    );
    writeFileSync(at("index"), "");
    writeFileSync(at("serial"), `${Date.now().toString(16).padStart(16, "0")}\n`);
    writeFileSync(at("req.cnf"), "[req]\ndistinguished_name=subject\n[subject]\n");
    const fresh = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", at("key")];
    await runChecked("openssl", [
      "req",
      "-config",
      at("req.cnf"),
      "-new",
      "-subj",
      `/CN=${user}`,
      ...fresh,
      "-out",
      at("csr"),
    ]);
    const signer = ["-cert", authority.certificate, "-keyfile", authority.key];
    const dates = ["-startdate", timeOf(Date.now() - 60_000), "-enddate", timeOf(endMs)];
    const output = ["-batch", "-notext", "-in", at("csr"), "-out", at("certificate")];
    await runChecked("openssl", ["ca", "-config", keep, ...signer, ...dates, ...output]);
    if (!readFileSync(at("certificate"), "utf8").includes("BEGIN CERTIFICATE"))
      throw new Error("openssl signed nothing");
    renameSync(at("key"), files.key);
    renameSync(at("certificate"), files.certificate);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
