{{/* One container. Takes root, role, pd (decode or prefill), container, first. */}}
{{- define "modelservice.engine" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $c := .container }}
{{- $sim := eq $v.engine "sim" }}
{{- $command := default "imageDefault" $c.modelCommand }}
{{- if and $sim .first (ne $command "vllmServe") }}{{ fail (printf "engine: sim needs modelCommand: vllmServe; %s.containers has %q" .role $command) }}{{ end }}
{{- $sim = and $sim (eq $command "vllmServe") }}
{{- $model := include "modelservice.model" $root | fromYaml }}
{{- $proxied := and $v.routing.proxy.enabled (eq .role "decode") }}
{{- $port := ternary $v.routing.modelServerPort $v.routing.servicePort $proxied | int }}
{{- $serves := eq $command "vllmServe" }}
{{- $mounts := or $c.mountModelVolume $serves }}
{{- $named := dict }}
{{- range $c.env }}{{ $_ := set $named .name true }}{{ end }}
- name: {{ required (printf "%s.containers: each needs a name" .role) $c.name }}
  {{- if $sim }}
  image: {{ include "modelservice.image" $root | quote }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  command: [warmpath, sim]
  {{- else }}
  image: {{ required (printf "%s.containers: %s needs an image" .role $c.name) $c.image | quote }}
  {{- with $c.imagePullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  {{- if $serves }}
  command: [vllm, serve]
  {{- else if eq $command "custom" }}
  {{- with $c.command }}
  command: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if $serves }}
  args:
    - {{ $model.model | quote }}
    - --host=0.0.0.0
    - --port={{ $port }}
    - {{ printf "--served-model-name=%s" (include "modelservice.modelName" $root) | quote }}
    {{- with .pd.parallelism }}
    {{- if and (gt (int .tensor) 1) (not $sim) }}
    - --tensor-parallel-size={{ .tensor }}
    {{- end }}
    {{- if gt (int .data) 1 }}
    - --data-parallel-size={{ .data }}
    {{- end }}
    {{- end }}
    {{- if $v.kvEvents.enabled }}
    - --enable-prefix-caching
    - {{ printf "--kv-events-config=%s" (include "modelservice.kvEvents" (dict "root" $root)) | quote }}
    {{- end }}
    {{- if $sim }}
    - {{ printf "--tokenizer=%s" (default $model.model $v.sim.tokenizer) | quote }}
    {{- end }}
    {{- range $c.args }}
    - {{ . | quote }}
    {{- end }}
    {{- if $sim }}
    {{- range $v.sim.args }}
    - {{ . | quote }}
    {{- end }}
    {{- end }}
  {{- else }}
  {{- with $c.args }}
  args: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  env:
    {{- if not (hasKey $named "POD_IP") }}
    - name: POD_IP
      valueFrom: { fieldRef: { apiVersion: v1, fieldPath: status.podIP } }
    {{- end }}
    {{- if not (hasKey $named "NAMESPACE") }}
    - name: NAMESPACE
      valueFrom: { fieldRef: { apiVersion: v1, fieldPath: metadata.namespace } }
    {{- end }}
    {{- if and $mounts $model.home (not (hasKey $named "HF_HOME")) }}
    - name: HF_HOME
      value: {{ $model.home | quote }}
    {{- end }}
    {{- if and $v.modelArtifacts.authSecretName (not (hasKey $named "HF_TOKEN")) (ne $model.kind "pvc") }}
    - name: HF_TOKEN
      valueFrom: { secretKeyRef: { name: {{ $v.modelArtifacts.authSecretName | quote }}, key: HF_TOKEN, optional: {{ $sim }} } }
    {{- end }}
    {{- with $c.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $c.envFrom }}
  envFrom: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $ports := list }}
  {{- if $c.ports }}{{ $ports = $c.ports }}
  {{- else if $serves }}
  {{- $ports = list (dict "name" "metrics" "containerPort" $port "protocol" "TCP") }}
  {{- if and $v.kvEvents.enabled (eq $v.kvEvents.mode "dial") }}
  {{- $ports = append $ports (dict "name" "kv-events" "containerPort" (int $v.kvEvents.port) "protocol" "TCP") }}
  {{- if $v.kvEvents.replayPort }}{{ $ports = append $ports (dict "name" "kv-replay" "containerPort" (int $v.kvEvents.replayPort) "protocol" "TCP") }}{{ end }}
  {{- end }}
  {{- end }}
  {{- with $ports }}
  ports: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and .first $serves .pd.probes.enabled }}
  {{- $http := dict "httpGet" (dict "path" "/health" "port" $port) }}
  startupProbe: {{- toYaml (default (merge (dict "periodSeconds" 10 "failureThreshold" (int .pd.probes.startupFailureThreshold)) $http) $c.startupProbe) | nindent 4 }}
  readinessProbe: {{- toYaml (default (merge (dict "periodSeconds" 5 "timeoutSeconds" 3 "failureThreshold" 3) $http) $c.readinessProbe) | nindent 4 }}
  livenessProbe: {{- toYaml (default (merge (dict "periodSeconds" 10 "timeoutSeconds" 10 "failureThreshold" 6) $http) $c.livenessProbe) | nindent 4 }}
  {{- else }}
  {{- range $probe := list "startupProbe" "readinessProbe" "livenessProbe" }}
  {{- with get $c $probe }}
  {{ $probe }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if $c.lifecycle }}
  lifecycle: {{- toYaml $c.lifecycle | nindent 4 }}
  {{- else if and $serves .pd.drainSeconds }}
  lifecycle: { preStop: { sleep: { seconds: {{ .pd.drainSeconds }} } } }
  {{- end }}
  {{- with $c.workingDir }}
  workingDir: {{ . }}
  {{- end }}
  {{- if $sim }}
  resources: {{- toYaml $v.sim.resources | nindent 4 }}
  securityContext: {{- include "modelservice.restricted" $root | nindent 4 }}
  {{- else }}
  {{- $resources := deepCopy (default dict $c.resources) }}
  {{- $accelerator := include "modelservice.acceleratorResource" $root }}
  {{- if and $serves $accelerator (not (hasKey (default dict $resources.limits) $accelerator)) }}
  {{- $gpus := mul (int .pd.parallelism.tensor) (int .pd.parallelism.data) | toString }}
  {{- $_ := set $resources "limits" (merge (default dict $resources.limits) (dict $accelerator $gpus)) }}
  {{- $_ := set $resources "requests" (merge (default dict $resources.requests) (dict $accelerator $gpus)) }}
  {{- end }}
  {{- with $resources }}
  resources: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- toYaml (default (dict "allowPrivilegeEscalation" false) $c.securityContext) | nindent 4 }}
  {{- end }}
  {{- $volumeMounts := list }}
  {{- if $mounts }}{{ $volumeMounts = append $volumeMounts (dict "name" "model-storage" "mountPath" "/model-cache" "readOnly" (eq $model.kind "pvc")) }}{{ end }}
  {{- range $c.volumeMounts }}{{ $volumeMounts = append $volumeMounts . }}{{ end }}
  {{- with $volumeMounts }}
  volumeMounts: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "modelservice.restricted" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
{{- end }}

{{/* Deployment, PodMonitor and PodDisruptionBudget of one role. Takes root, role, pd. */}}
{{- define "modelservice.role" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $role := .role }}
{{- $pd := .pd }}
{{- $full := include "modelservice.fullname" $root }}
{{- $name := printf "%s-%s" $full $role }}
{{- $model := include "modelservice.model" $root | fromYaml }}
{{- if not $pd.containers }}{{ fail (printf "%s.containers is empty" $role) }}{{ end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "modelservice.labels" $root | nindent 4 }}
    llm-d.ai/role: {{ $role }}
spec:
  replicas: {{ $pd.replicas }}
  strategy: {{- toYaml $pd.strategy | nindent 4 }}
  selector:
    matchLabels:
      llm-d.ai/model: {{ $full }}
      llm-d.ai/role: {{ $role }}
  template:
    metadata:
      labels:
        {{- toYaml $v.modelArtifacts.labels | nindent 8 }}
        llm-d.ai/model: {{ $full }}
        llm-d.ai/role: {{ $role }}
      {{- with $pd.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "modelservice.serviceAccount" $root }}
      automountServiceAccountToken: false
      # The variables of a Service whose name begins with vllm or warmpath would be read as settings.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $pd.terminationGracePeriodSeconds }}
      {{- $podSecurity := deepCopy (default dict $pd.podSecurityContext) }}
      {{- if eq $v.engine "sim" }}{{ $podSecurity = merge $podSecurity (dict "fsGroup" 65532) }}{{ end }}
      {{- with $podSecurity }}
      securityContext: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $v.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- range $key := list "nodeSelector" "tolerations" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" }}
      {{- with get $pd $key }}
      {{ $key }}: {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- end }}
      {{- end }}
      {{- if $pd.affinity }}
      affinity: {{- toYaml $pd.affinity | nindent 8 }}
      {{- else if and $pd.acceleratorTypes.labelKey (ne $v.engine "sim") }}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - { key: {{ $pd.acceleratorTypes.labelKey | quote }}, operator: In, values: {{ $pd.acceleratorTypes.labelValues | toJson }} }
      {{- end }}
      {{- if and $v.routing.proxy.enabled (eq $role "decode") }}
      initContainers:
        - name: routing-proxy
          image: {{ include "modelservice.sidecarImage" $root | quote }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          # A sidecar: it runs beside the engine and ends after it.
          restartPolicy: Always
          {{- if not $v.routing.proxy.image }}
          command: [warmpath, sidecar]
          {{- end }}
          args:
            - --port={{ $v.routing.servicePort }}
            - --vllm-port={{ $v.routing.modelServerPort }}
            - --connector={{ $v.routing.proxy.connector }}
            - -v={{ default $v.routing.proxy.verbosity $v.routing.proxy.debugLevel }}
            - --secure-proxy={{ $v.routing.proxy.secure }}
            {{- if gt (int $pd.parallelism.data) 1 }}
            - --data-parallel-size={{ $pd.parallelism.data }}
            {{- end }}
            {{- range $v.routing.proxy.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          ports:
            - { name: http, containerPort: {{ $v.routing.servicePort }}, protocol: TCP }
          {{- if $pd.probes.enabled }}
          # Through the proxy to the engine: the way requests take.
          readinessProbe:
            httpGet: { path: /health, port: http, scheme: {{ ternary "HTTPS" "HTTP" $v.routing.proxy.secure }} }
            periodSeconds: 5
            timeoutSeconds: 3
          {{- end }}
          {{- with $v.routing.proxy.resources }}
          resources: {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext: {{- include "modelservice.restricted" $root | nindent 12 }}
      {{- end }}
      containers:
        {{- range $i, $container := $pd.containers }}
        {{- include "modelservice.engine" (dict "root" $root "role" $role "pd" $pd "container" $container "first" (eq $i 0)) | trim | nindent 8 }}
        {{- end }}
      volumes:
        - name: model-storage
          {{- if $model.claim }}
          persistentVolumeClaim: { claimName: {{ $model.claim | quote }}, readOnly: {{ eq $model.kind "pvc" }} }
          {{- else }}
          emptyDir: { sizeLimit: {{ $v.modelArtifacts.size | quote }} }
          {{- end }}
        {{- with $pd.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- if and $pd.podDisruptionBudget.create (gt (int $pd.replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "modelservice.labels" $root | nindent 4 }}
spec:
  maxUnavailable: {{ $pd.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      llm-d.ai/model: {{ $full }}
      llm-d.ai/role: {{ $role }}
{{- end }}
{{- with $pd.monitoring.podmonitor }}
{{- if .enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ $name }}-podmonitor
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "modelservice.labels" $root | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  selector:
    matchLabels:
      llm-d.ai/model: {{ $full }}
      llm-d.ai/role: {{ $role }}
  podMetricsEndpoints:
    - { port: {{ .portName }}, path: {{ .path }}, interval: {{ .interval }} }
{{- end }}
{{- end }}
{{- end }}
