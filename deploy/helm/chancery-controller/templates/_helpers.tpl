{{- define "chancery-controller.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "chancery-controller.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "chancery-controller.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "chancery-controller.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "chancery-controller.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chancery-controller.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "chancery-controller.labels" -}}
{{ include "chancery-controller.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: chancery
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "chancery-controller.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "chancery-controller.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create=false needs serviceAccount.name: the rights are not for everybody's default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "chancery-controller.image" -}}
{{- $name := .Values.image.repository }}
{{- if .Values.imageRegistry }}{{ $name = printf "%s/%s" (trimSuffix "/" .Values.imageRegistry) $name }}{{ end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "chancery-controller.leaderElectionNamespace" -}}
{{- default .Release.Namespace .Values.global.leaderElection.namespace }}
{{- end }}

{{- define "chancery-controller.clusterResourceNamespace" -}}
{{- default .Release.Namespace .Values.clusterResourceNamespace }}
{{- end }}

{{- /* What the controller does in the namespaces that it looks after. */}}
{{- define "chancery-controller.rules" -}}
- apiGroups: [cert-manager.io]
  resources: [issuers, certificates, certificaterequests]
  verbs: [get, list, watch]
- apiGroups: [cert-manager.io]
  resources: [certificaterequests]
  verbs: [create, delete]
- apiGroups: [cert-manager.io]
  resources: [issuers/status, certificates/status, certificaterequests/status]
  verbs: [update, patch]
# What Certificates own names them with blockOwnerDeletion.
- apiGroups: [cert-manager.io]
  resources: [certificates/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
