// Where the tables of kube-proxy's tests are once `make kube-proxy-tables` has written them.
import { resolve } from "node:path";

export const TABLES = resolve(import.meta.dirname, "../../../build/kube-proxy-tables");
