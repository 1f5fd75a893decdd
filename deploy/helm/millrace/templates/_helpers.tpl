{{/* Names are fixed: a cluster has one Millrace, and its parts find each other by them. */}}

{{- define "millrace.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What a DaemonSet or Deployment finds its pods by; never to be changed. Takes the component. */}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{- define "millrace.labels" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/part-of: millrace
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* The agent's configuration file. Where metrics are scraped they are not on loopback alone. */}}
{{- define "millrace.config" -}}
{{- $config := dict -}}
{{- if .Values.controller.enabled }}{{ $_ := set $config "announcer-secret" "/etc/millrace/announcer" }}{{ end -}}
{{- with .Values.apiServer }}{{ $_ := set $config "apiserver" . }}{{ end -}}
{{- with .Values.loadBalancerClass }}{{ $_ := set $config "load-balancer-class" . }}{{ end -}}
{{- if or .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled }}{{ $_ := set $config "metrics-bind-address" "0.0.0.0:10249" }}{{ end -}}
{{- toYaml (mergeOverwrite $config .Values.config) -}}
{{- end -}}

{{/* "yes" for ADDRESS:PORT, "" for an address alone, which "::" is without brackets. */}}
{{- define "millrace.hasPort" -}}
{{- if and (regexMatch ":[0-9]+$" .) (or (hasPrefix "[" .) (le (len (splitList ":" .)) 2)) }}yes{{ end -}}
{{- end -}}

{{/* The port of what a server listens on. Takes a list of the address, and the port where it names none. */}}
{{- define "millrace.port" -}}
{{- $address := index . 0 -}}
{{- if include "millrace.hasPort" $address }}{{ regexFind "[0-9]+$" $address }}{{ else }}{{ index . 1 }}{{ end -}}
{{- end -}}

{{- define "millrace.healthAddress" -}}
{{- get (include "millrace.config" . | fromYaml) "healthz-bind-address" | default (hasKey .Values.config "healthz-bind-address" | ternary "" "0.0.0.0:10256") -}}
{{- end -}}

{{- define "millrace.metricsAddress" -}}
{{- get (include "millrace.config" . | fromYaml) "metrics-bind-address" | default (hasKey .Values.config "metrics-bind-address" | ternary "" "127.0.0.1:10249") -}}
{{- end -}}

{{/* Where a kubelet asks: an address that the server listens on, 127.0.0.1 when that is all of them. */}}
{{- define "millrace.probeHost" -}}
{{- $host := ternary (regexReplaceAll ":[0-9]+$" . "") . (eq (include "millrace.hasPort" .) "yes") | trimPrefix "[" | trimSuffix "]" -}}
{{- if has $host (list "" "0.0.0.0") }}127.0.0.1{{ else if eq $host "::" }}::1{{ else }}{{ $host }}{{ end -}}
{{- end -}}
