#!/bin/sh
# Builds Helm from its Go modules into .cache/helm/helm-3 and helm-4, those that are asked for and missing: helm.sh 3 4
set -eu

cd "$(dirname "$0")/.."
for major; do
  case $major in
  3) version=v3.22.0 ;;
  4) version=v4.3.2 ;;
  *) echo "helm.sh: there is no Helm $major: 3, 4" >&2; exit 2 ;;
  esac
  made=.cache/helm/$version/helm
  if [ ! -x "$made" ]; then
    command -v go >/dev/null 2>&1 || { echo 'make chart: it builds Helm and needs Go' >&2; exit 3; }
    printf '  %-6s %s\n' GO "building helm $version" >&2
    mkdir -p "$(dirname "$made")"
    # What Helm's own build writes into variables: its version, and, for Helm 3, the Kubernetes that is rendered for without a cluster.
    module=helm.sh/helm/v$major
    flags="-s -w -X $module/internal/version.version=$version"
    for package in chartutil lint/rules; do
      flags="$flags -X $module/pkg/$package.k8sVersionMajor=1 -X $module/pkg/$package.k8sVersionMinor=37"
    done
    GOBIN=$PWD/.cache/helm/$version.part CGO_ENABLED=0 GOWORK=off nice -n 5 \
      go install -trimpath -ldflags "$flags" "$module/cmd/helm@$version"
    mv ".cache/helm/$version.part/helm" "$made"
    rmdir ".cache/helm/$version.part"
  fi
  ln -sfn "$version/helm" ".cache/helm/helm-$major"
done
