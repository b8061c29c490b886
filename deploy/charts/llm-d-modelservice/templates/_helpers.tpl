{{- define "modelservice.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "modelservice.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "modelservice.serviceAccount" -}}
{{- default (include "modelservice.fullname" .) .Values.serviceAccountOverride }}
{{- end }}

{{- define "modelservice.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "modelservice.sidecarImage" -}}
{{- default (include "modelservice.image" .) .Values.routing.proxy.image }}
{{- end }}

{{/* The uri in parts, as YAML: kind, claim, path (inside the volume), model (what the engine is told to serve). */}}
{{- define "modelservice.model" -}}
{{- $uri := required "modelArtifacts.uri names the model: hf://ORG/REPO, pvc://CLAIM/PATH or pvc+hf://CLAIM/CACHE-PATH/ORG/REPO" .Values.modelArtifacts.uri }}
{{- if hasPrefix "hf://" $uri }}
{{- $repo := trimPrefix "hf://" $uri }}
{{- if not (regexMatch "^[^/]+/[^/]+$" $repo) }}{{ fail (printf "modelArtifacts.uri: %q must be hf://ORG/REPO" $uri) }}{{ end }}
{{- dict "kind" "hf" "model" $repo "repo" $repo "home" "/model-cache" | toYaml }}
{{- else if hasPrefix "pvc://" $uri }}
{{- $rest := trimPrefix "pvc://" $uri }}
{{- if not (regexMatch "^[^/]+/.+$" $rest) }}{{ fail (printf "modelArtifacts.uri: %q must be pvc://CLAIM/PATH" $uri) }}{{ end }}
{{- $claim := first (splitList "/" $rest) }}
{{- $path := trimPrefix (printf "%s/" $claim) $rest }}
{{- dict "kind" "pvc" "claim" $claim "model" (printf "/model-cache/%s" $path) "repo" $path "home" "" | toYaml }}
{{- else if hasPrefix "pvc+hf://" $uri }}
{{- $rest := trimPrefix "pvc+hf://" $uri }}
{{- $parts := splitList "/" $rest }}
{{- if lt (len $parts) 4 }}{{ fail (printf "modelArtifacts.uri: %q must be pvc+hf://CLAIM/CACHE-PATH/ORG/REPO" $uri) }}{{ end }}
{{- $repo := join "/" (slice $parts (sub (len $parts) 2 | int)) }}
{{- $path := join "/" (slice $parts 1 (sub (len $parts) 2 | int)) }}
{{- dict "kind" "pvc+hf" "claim" (first $parts) "model" $repo "repo" $repo "home" (printf "/model-cache/%s" $path) | toYaml }}
{{- else }}{{ fail (printf "modelArtifacts.uri: %q is not supported; use hf://, pvc:// or pvc+hf://" $uri) }}
{{- end }}
{{- end }}

{{- define "modelservice.modelName" -}}
{{- $parts := include "modelservice.model" . | fromYaml }}
{{- coalesce .Values.modelArtifacts.name .Values.routing.modelName $parts.repo }}
{{- end }}

{{- define "modelservice.eppService" -}}
{{- if .Values.kvEvents.eppService }}{{ .Values.kvEvents.eppService }}
{{- else }}{{ printf "%s-epp" (.Values.routing.inferencePool.name | lower | trunc 40 | trimSuffix "-") }}{{ end }}
{{- end }}

{{/* --kv-events-config of an engine that listens on `port`. $(POD_IP) is filled in by the kubelet. */}}
{{- define "modelservice.kvEvents" -}}
{{- $root := .root }}
{{- with $root.Values.kvEvents }}
{{- $model := include "modelservice.modelName" $root }}
{{- $config := dict "enable_kv_cache_events" true "publisher" "zmq" }}
{{- if eq .mode "bind" }}
{{- $epp := include "modelservice.eppService" $root }}
{{- $ns := default $root.Release.Namespace .eppNamespace }}
{{- $_ := set $config "endpoint" (printf "tcp://%s.%s.svc.%s:%d" $epp $ns $root.Values.clusterDomain (int .port)) }}
{{- $_ := set $config "topic" (printf "kv@$(POD_IP)@%s" $model) }}
{{- else }}
{{- $_ := set $config "endpoint" (printf "tcp://*:%d" (int .port)) }}
{{- $_ := set $config "topic" (printf "kv@$(POD_IP):%d@%s" (int $root.Values.routing.servicePort) $model) }}
{{- if .replayPort }}{{ $_ := set $config "replay_endpoint" (printf "tcp://*:%d" (int .replayPort)) }}{{ end }}
{{- end }}
{{- $config | toJson }}
{{- end }}
{{- end }}

{{- define "modelservice.acceleratorResource" -}}
{{- $known := dict "nvidia" "nvidia.com/gpu" "amd" "amd.com/gpu" "intel-i915" "gpu.intel.com/i915" "intel-xe" "gpu.intel.com/xe" "google" "google.com/tpu" "cpu" "" }}
{{- get $known .Values.accelerator.type }}
{{- end }}

{{- define "modelservice.check" -}}
{{- $v := .Values }}
{{- range $role := list "decode" "prefill" }}
{{- $pd := get $v $role }}
{{- $ranks := int $pd.parallelism.data }}
{{- if and $pd.create $v.kvEvents.enabled (gt $ranks 1) }}
{{- if eq $v.kvEvents.mode "bind" }}
{{- fail (printf "%s.parallelism.data: %d with kvEvents.mode: bind: rank i publishes to port %d + i of the picker's Service, and only %d is there; use mode: dial" $role $ranks (int $v.kvEvents.port) (int $v.kvEvents.port)) }}
{{- end }}
{{- $between := sub (int $v.kvEvents.replayPort) (int $v.kvEvents.port) | int }}
{{- if and $v.kvEvents.replayPort (lt $between $ranks) (gt $between (sub 0 $ranks | int)) }}
{{- fail (printf "kvEvents.replayPort: %d is too near to port %d for %d ranks, rank i uses both plus i" (int $v.kvEvents.replayPort) (int $v.kvEvents.port) $ranks) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.multinode }}{{ fail "multinode: LeaderWorkerSets are not supported; leave it false" }}{{ end }}
{{- with .Values.routing }}
{{- if .inferencePool.create }}{{ fail "routing.inferencePool.create: the pool comes from the chart inferencepool; leave it false" }}{{ end }}
{{- if .epp.create }}{{ fail "routing.epp.create: the endpoint picker comes from the chart inferencepool; leave it false" }}{{ end }}
{{- if .inferenceModel.create }}{{ fail "routing.inferenceModel.create: there is no InferenceModel any more; leave it false" }}{{ end }}
{{- end }}
{{- end }}
