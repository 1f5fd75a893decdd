// The ingress controller of ingress.test.ts. It is built as its own main module, whose go.mod and go.sum say what it is made of: this
// one says which version, and its hash.
module millrace.io/test/cluster/programs/traefik

go 1.26.0

require github.com/traefik/traefik/v3 v3.7.13
