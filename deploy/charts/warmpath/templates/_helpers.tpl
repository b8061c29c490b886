{{- define "warmpath.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "warmpath.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "warmpath.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "warmpath.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "warmpath.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "warmpath.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{/* --endpoint-selector, empty with a fixed list. */}}
{{- define "warmpath.selector" -}}
{{- with .Values.endpoints }}
{{- if .static }}
{{- else if .matchLabels }}
{{- $terms := list }}
{{- range $key, $value := .matchLabels }}{{ $terms = append $terms (printf "%s=%s" $key $value) }}{{ end }}
{{- join "," $terms }}
{{- else }}{{ .selector }}
{{- end }}
{{- end }}
{{- end }}

{{- define "warmpath.endpointsNamespace" -}}
{{- default .Release.Namespace .Values.endpoints.namespace }}
{{- end }}

{{- define "warmpath.check" -}}
{{- if not (or .Values.endpoints.static (include "warmpath.selector" .)) }}{{ fail "endpoints: matchLabels, selector or static must name the engines" }}{{ end }}
{{- if and (eq .Values.kvEvents.mode "bind") (gt (int .Values.replicas) 1) }}
{{- fail (printf "replicas: %d with kvEvents.mode: bind: the Service would give each engine's events to one replica only; use mode: dial or one replica" (int .Values.replicas)) }}
{{- end }}
{{- $config := .Values.config | fromYaml }}
{{- if hasKey $config "Error" }}{{ fail (printf "config: is not YAML: %s" $config.Error) }}{{ end }}
{{- if eq .Values.kvEvents.mode "dial" }}
{{- range $config.plugins }}
{{- $events := (.parameters | default dict).kvEventsConfig | default dict }}
{{- with $events.zmqEndpoint }}
{{- fail (printf "config: kvEventsConfig.zmqEndpoint %s listens for the engines' events; leave it out and set kvEvents.mode: bind, which opens the port of the Service" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (eq .Values.kvEvents.mode "bind") (not .Values.networkPolicy.engines) (or .Values.endpoints.static (not .Values.endpoints.matchLabels)) }}
{{- fail "networkPolicy.engines: without endpoints.matchLabels it must say who may send KV events" }}
{{- end }}
{{- end }}
