{{- define "chancery-mesh.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "chancery-mesh.fullname" -}}
{{- coalesce .Values.fullnameOverride .Values.nameOverride .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "chancery-mesh.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chancery-mesh.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: mesh-ca
{{- end }}

{{- define "chancery-mesh.labels" -}}
{{ include "chancery-mesh.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: chancery
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "chancery-mesh.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "chancery-mesh.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create=false needs serviceAccount.name: the rights are not for everybody's default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "chancery-mesh.image" -}}
{{- $name := .Values.image.repository }}
{{- if not $name }}
{{- $name = compact (list (trimSuffix "/" .Values.imageRegistry) .Values.imageNamespace .Values.image.name) | join "/" }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "chancery-mesh.dnsNames" -}}
{{- if .Values.app.tls.certificateDNSNames }}
{{- join "," .Values.app.tls.certificateDNSNames }}
{{- else }}
{{- printf "%s.%s.svc" (include "chancery-mesh.fullname" .) .Release.Namespace }}
{{- end }}
{{- end }}

{{/* Not empty where the runtime issuer's ConfigMap is followed: its name. */}}
{{- define "chancery-mesh.runtimeConfigMap" -}}
{{- with .Values.app.runtimeConfiguration }}
{{- if .name }}{{ .name }}{{ else if .create }}{{ include "chancery-mesh.fullname" $ }}-issuer{{ end }}
{{- end }}
{{- end }}

{{/* Not empty where the service itself keeps istiod's certificate. */}}
{{- define "chancery-mesh.keepsIstiod" -}}
{{- $enable := toString .Values.app.tls.istiodCertificateEnable }}
{{- if eq $enable "dynamic" }}true{{ else if and (eq $enable "true") (eq .Values.app.signer "direct") }}true{{ end }}
{{- end }}

{{/* Not empty where this release holds istiod's Certificate. */}}
{{- define "chancery-mesh.istiodCertificate" -}}
{{- if and (eq (toString .Values.app.tls.istiodCertificateEnable) "true") (eq .Values.app.signer "certificate-request") }}true{{ end }}
{{- end }}

{{/* How the service logs in: appRole, kubernetes or token. */}}
{{- define "chancery-mesh.login" -}}
{{- with .Values.app.direct.auth }}
{{- $ways := list }}
{{- if .appRole.roleId }}{{ $ways = append $ways "appRole" }}{{ end }}
{{- if .kubernetes.role }}{{ $ways = append $ways "kubernetes" }}{{ end }}
{{- if .tokenSecretRef.name }}{{ $ways = append $ways "token" }}{{ end }}
{{- if ne (len $ways) 1 }}
{{- fail "app.signer=direct needs one way to log in: app.direct.auth.appRole.roleId, .kubernetes.role or .tokenSecretRef.name" }}
{{- end }}
{{- first $ways }}
{{- end }}
{{- end }}
