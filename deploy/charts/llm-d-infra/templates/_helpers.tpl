{{- define "infra.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "infra.gateway" -}}
{{- if .Values.gateway.fullnameOverride }}{{ .Values.gateway.fullnameOverride }}
{{- else }}{{ include "infra.fullname" . | trunc 45 | trimSuffix "-" }}-inference-gateway{{ end }}
{{- end }}

{{/* istio | kgateway | gke | other */}}
{{- define "infra.provider" -}}
{{- $class := .Values.gateway.gatewayClassName }}
{{- if hasPrefix "istio" $class }}istio{{ else if hasPrefix "kgateway" $class }}kgateway{{ else if hasPrefix "gke-" $class }}gke{{ else }}other{{ end }}
{{- end }}

{{/* The Service that the provider makes of the Gateway; empty: none in the cluster. */}}
{{- define "infra.gatewayService" -}}
{{- $provider := include "infra.provider" . }}
{{- if eq $provider "istio" }}{{ include "infra.gateway" . }}-{{ .Values.gateway.gatewayClassName }}
{{- else if eq $provider "kgateway" }}{{ include "infra.gateway" . }}{{ end }}
{{- end }}

{{/* The object with the provider's settings, as parametersRef; empty: none. */}}
{{- define "infra.parametersRef" -}}
{{- $provider := include "infra.provider" . }}
{{- if eq $provider "istio" }}{{ dict "group" "" "kind" "ConfigMap" "name" (include "infra.gateway" .) | toYaml }}
{{- else if and (eq $provider "kgateway") .Values.gateway.gatewayParameters.enabled }}
{{- dict "group" "gateway.kgateway.dev" "kind" "GatewayParameters" "name" (include "infra.gateway" .) | toYaml }}{{ end }}
{{- end }}

{{/* Of the proxy, in Envoy's words. */}}
{{- define "infra.logLevel" -}}
{{- $level := .Values.gateway.gatewayParameters.logLevel | default .Values.gateway.logLevel }}
{{- eq $level "warn" | ternary "warning" $level }}
{{- end }}

{{- define "infra.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: inference-gateway
app.kubernetes.io/gateway: {{ include "infra.gateway" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "infra.metadata" -}}
name: {{ include "infra.gateway" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "infra.labels" . | nindent 2 }}
{{- with .Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
