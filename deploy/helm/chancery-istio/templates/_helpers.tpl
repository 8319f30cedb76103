{{- define "chancery-istio.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: chancery
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The server's name as its own chart forms it. */}}
{{- define "chancery-istio.serverName" -}}
{{- include "chancery.fullname" .Subcharts.chancery }}
{{- end }}

{{- define "chancery-istio.server" -}}
{{- if .Values.issuer.server }}
{{- .Values.issuer.server }}
{{- else if .Values.chancery.enabled }}
{{- printf "%s://%s.%s.svc:%v" (include "chancery.scheme" .Subcharts.chancery) (include "chancery-istio.serverName" .) .Release.Namespace .Values.chancery.server.service.port }}
{{- else }}
{{- fail "issuer.server must be given where chancery.enabled is false: the URL of the server that signs" }}
{{- end }}
{{- end }}
