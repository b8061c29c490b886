{{/* Of every object but the pool, which has the release's name. */}}
{{- define "epp.name" -}}
{{ .Release.Name | lower | trunc 40 | trimSuffix "-" }}-epp
{{- end }}

{{/* Of cluster-wide objects. */}}
{{- define "epp.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "epp.name" .) | trunc 240 }}
{{- end }}

{{- define "epp.labels" -}}
app.kubernetes.io/name: {{ include "epp.name" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "epp.selector" -}}
inferencepool: {{ include "epp.name" . }}
{{- end }}

{{- define "epp.metadata" -}}
name: {{ include "epp.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "epp.labels" . | nindent 2 }}
{{- end }}

{{- define "epp.image" -}}
{{- with .Values.inferenceExtension.image -}}
{{ if .hub }}{{ .hub }}/{{ end }}{{ .name }}:{{ .tag }}
{{- end }}
{{- end }}

{{- define "epp.poolGroup" -}}
{{ first (splitList "/" .Values.inferencePool.apiVersion) }}
{{- end }}

{{/* `flags`, as a map. */}}
{{- define "epp.flags" -}}
{{- $flags := dict }}
{{- if kindIs "slice" .Values.inferenceExtension.flags }}
{{- range .Values.inferenceExtension.flags }}{{ $_ := set $flags (.name | trimPrefix "--" | trimPrefix "-") .value }}{{ end }}
{{- else }}
{{- range $name, $value := .Values.inferenceExtension.flags }}{{ $_ := set $flags ($name | trimPrefix "--" | trimPrefix "-") $value }}{{ end }}
{{- end }}
{{- $flags | toYaml }}
{{- end }}

{{/* `env`, as a map from name to the entry without it. */}}
{{- define "epp.env" -}}
{{- $env := dict }}
{{- if kindIs "slice" .Values.inferenceExtension.env }}
{{- range .Values.inferenceExtension.env }}{{ $_ := set $env .name (omit . "name") }}{{ end }}
{{- else }}
{{- range $name, $value := .Values.inferenceExtension.env }}{{ $_ := set $env $name (dict "value" (toString $value)) }}{{ end }}
{{- end }}
{{- $env | toYaml }}
{{- end }}

{{/* The configuration that is read. */}}
{{- define "epp.config" -}}
{{- with .Values.inferenceExtension }}
{{- if hasKey .pluginsCustomConfig .pluginsConfigFile }}{{ index .pluginsCustomConfig .pluginsConfigFile }}
{{- else if has .pluginsConfigFile (list "default-plugins.yaml" "plugins-v2.yaml") }}{{ $.Files.Get (printf "files/%s" .pluginsConfigFile) }}
{{- else }}{{ fail (printf "inferenceExtension.pluginsConfigFile: %q is neither default-plugins.yaml nor plugins-v2.yaml nor a key of pluginsCustomConfig" .pluginsConfigFile) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Why engines would connect to the picker, rather than the picker to the engines; empty: they do not. */}}
{{- define "epp.binds" -}}
{{- $flags := include "epp.flags" . | fromYaml }}
{{- $reasons := list }}
{{- if get $flags "kv-events-bind" }}{{ $reasons = append $reasons "the flag kv-events-bind" }}{{ end }}
{{- $config := include "epp.config" . | fromYaml }}
{{- range ($config.plugins | default list) }}
{{- $parameters := .parameters | default dict }}
{{- if eq (toString $parameters.mode) "cache_tracking" }}{{ $reasons = append $reasons (printf "plugin %s: mode cache_tracking" .type) }}{{ end }}
{{- if kindIs "map" $parameters.kvEventsConfig }}{{ with $parameters.kvEventsConfig.zmqEndpoint }}{{ $reasons = append $reasons (printf "kvEventsConfig.zmqEndpoint %s" .) }}{{ end }}{{ end }}
{{- end }}
{{- join ", " $reasons }}
{{- end }}

{{- define "epp.check" -}}
{{- $e := .Values.inferenceExtension }}
{{- $config := include "epp.config" . | fromYaml }}
{{- if hasKey $config "Error" }}{{ fail (printf "inferenceExtension.pluginsCustomConfig: %s is not YAML: %s" $e.pluginsConfigFile $config.Error) }}{{ end }}
{{- $binds := include "epp.binds" . }}
{{- if and (gt (int $e.replicas) 1) $binds }}
{{- fail (printf "inferenceExtension.replicas is %d, but the engines connect to the picker's Service (%s): each engine would reach one replica only, and the others would not know its cache. Use one replica, or let the picker dial the engines: leave these out and set kvEventsConfig.discoverPods: true with podDiscoveryConfig.socketPort" (int $e.replicas) $binds) }}
{{- end }}
{{- $flags := include "epp.flags" . | fromYaml }}
{{- range list "pool-name" "pool-namespace" "pool-group" "config-file" "config-text" "grpc-health-port" "metrics-port" "grpc-port" "ha-enable-leader-election" "metrics-endpoint-auth" }}
{{- if hasKey $flags . }}{{ fail (printf "inferenceExtension.flags.%s: the chart sets this flag from other values" .) }}{{ end }}
{{- end }}
{{- if and (gt (len .Values.inferencePool.targetPorts) 0) (eq (include "epp.poolGroup" .) "inference.networking.x-k8s.io") }}
{{- fail "inferencePool.targetPorts: a pool of inference.networking.x-k8s.io/v1alpha2 has one port, targetPortNumber" }}
{{- end }}
{{- if and $e.tokenizer.name $e.tokenizer.volume }}{{ fail "inferenceExtension.tokenizer: give name or volume, not both" }}{{ end }}
{{- end }}
