{{- define "chancery.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "chancery.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "chancery.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "chancery.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "chancery.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chancery.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "chancery.labels" -}}
{{ include "chancery.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: chancery
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "chancery.serviceAccountName" -}}
{{- if .Values.server.serviceAccount.create }}
{{- default (include "chancery.fullname" .) .Values.server.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.server.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "chancery.image" -}}
{{- with .Values.server.image }}
{{- $name := .repository }}
{{- if .registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .registry) .repository }}{{ end }}
{{- if .digest }}
{{- printf "%s@%s" $name .digest }}
{{- else }}
{{- printf "%s:%s" $name (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* dev or standalone. */}}
{{- define "chancery.mode" -}}
{{- if .Values.server.dev.enabled -}}
dev
{{- else if eq (toString .Values.server.standalone.enabled) "false" -}}
{{- fail "nothing is enabled: set server.standalone.enabled or server.dev.enabled to true" -}}
{{- else -}}
standalone
{{- end }}
{{- end }}

{{/* Not empty where TLS is spoken. */}}
{{- define "chancery.tls" -}}
{{- if and (eq (include "chancery.mode" .) "standalone") (not .Values.global.tlsDisable) }}true{{ end }}
{{- end }}

{{- define "chancery.scheme" -}}
{{- if include "chancery.tls" . }}https{{ else }}http{{ end }}
{{- end }}

{{- define "chancery.tlsSecret" -}}
{{- default (printf "%s-tls" (include "chancery.fullname" .)) .Values.server.tls.secretName }}
{{- end }}

{{/* Not empty where metrics can be read without a token. A development server's always can. */}}
{{- define "chancery.openMetrics" -}}
{{- if or (eq (include "chancery.mode" .) "dev") .Values.server.standalone.unauthenticatedMetricsAccess }}true{{ end }}
{{- end }}

{{- define "chancery.serviceMonitor" -}}
{{- if or .Values.serverTelemetry.serviceMonitor.enabled .Values.global.serverTelemetry.prometheusOperator }}true{{ end }}
{{- end }}

{{/* The key in the ConfigMap: what it ends in says how it is read. */}}
{{- define "chancery.configFile" -}}
{{- if kindIs "map" .Values.server.standalone.config }}server.json{{ else }}server.hcl{{ end }}
{{- end }}

{{- define "chancery.config" -}}
{{- $server := .Values.server }}
{{- if kindIs "map" $server.standalone.config }}
{{- toPrettyJson $server.standalone.config }}
{{- else if $server.standalone.config }}
{{- tpl $server.standalone.config . | trim }}
{{- else -}}
api_addr = {{ default (printf "%s://%s.%s.svc:%v" (include "chancery.scheme" .) (include "chancery.fullname" .) .Release.Namespace $server.service.port) $server.apiAddr | quote }}

storage "embedded" {
  path = "{{ $server.dataStorage.mountPath }}/store"
}

listener "tcp" {
  address = "[::]:8200"
  {{- if include "chancery.tls" . }}
  tls_cert_file   = "/etc/chancery/tls/{{ $server.tls.certKey }}"
  tls_key_file    = "/etc/chancery/tls/{{ $server.tls.keyKey }}"
  tls_min_version = {{ $server.tls.minVersion | quote }}
  {{- if $server.tls.clientCa.secretName }}
  tls_client_ca_file = "/etc/chancery/client-ca/{{ $server.tls.clientCa.key }}"
  {{- end }}
  {{- else }}
  tls_disable = true
  {{- end }}
  {{- if $server.standalone.unauthenticatedMetricsAccess }}
  telemetry {
    unauthenticated_metrics_access = true
  }
  {{- end }}
}
{{- with $server.seal.static }}
{{- if .enabled }}

seal "static" {
  current_key_id = {{ required "server.seal.static needs currentKeyId" .currentKeyId | toString | quote }}
  current_key    = "file:///etc/chancery/seal/{{ .currentKey }}"
  {{- if .previousKeyId }}
  previous_key_id = {{ .previousKeyId | toString | quote }}
  previous_key    = "file:///etc/chancery/seal/{{ .previousKey }}"
  {{- end }}
}
{{- end }}
{{- end }}
{{- with $server.standalone.extraConfig }}

{{ tpl . $ | trim }}
{{- end }}
{{- end }}
{{- end }}

{{/* A probe: the call with its settings, and the root. */}}
{{- define "chancery.probe" -}}
{{- $probe := index . 0 }}
{{- $root := index . 1 -}}
httpGet:
  path: {{ $probe.path | quote }}
  port: http
  scheme: {{ include "chancery.scheme" $root | upper }}
initialDelaySeconds: {{ $probe.initialDelaySeconds }}
periodSeconds: {{ $probe.periodSeconds }}
timeoutSeconds: {{ $probe.timeoutSeconds }}
successThreshold: {{ $probe.successThreshold }}
failureThreshold: {{ $probe.failureThreshold }}
{{- end }}

{{- define "chancery.podSecurityContext" -}}
{{- if .Values.server.statefulSet.securityContext.pod }}
{{- toYaml .Values.server.statefulSet.securityContext.pod }}
{{- else -}}
runAsNonRoot: true
{{- if not .Values.global.openshift }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- end }}

{{- define "chancery.containerSecurityContext" -}}
{{- if .Values.server.statefulSet.securityContext.container }}
{{- toYaml .Values.server.statefulSet.securityContext.container }}
{{- else -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
{{- end }}

{{/* A claim: its name, and its settings. */}}
{{- define "chancery.claim" -}}
{{- $claim := index . 1 -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ index . 0 }}
    {{- with $claim.labels }}
    labels:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $claim.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes: [{{ $claim.accessMode }}]
    {{- with $claim.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ $claim.size }}
{{- end }}
