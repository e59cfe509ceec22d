{{- define "prtwatch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* A StatefulSet's name has 52 characters at most: its revisions' labels add eleven. */}}
{{- define "prtwatch.fullname" -}}
{{- $name := include "prtwatch.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "prtwatch.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "prtwatch.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "prtwatch.serviceAccountAnnotations" -}}
{{- $annotations := deepCopy .Values.serviceAccount.annotations }}
{{- if and .Values.azureWorkloadIdentity.enabled .Values.azureWorkloadIdentity.clientId }}
{{- $_ := set $annotations "azure.workload.identity/client-id" .Values.azureWorkloadIdentity.clientId }}
{{- end }}
{{- with $annotations }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* What the pods of the release have in common, those of Jobs too. */}}
{{- define "prtwatch.commonSelector" -}}
app.kubernetes.io/name: {{ include "prtwatch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The pods that watch. */}}
{{- define "prtwatch.selector" -}}
{{ include "prtwatch.commonSelector" . }}
app.kubernetes.io/component: watch
{{- end }}

{{- define "prtwatch.labels" -}}
{{ include "prtwatch.commonSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "prtwatch.podLabels" -}}
{{- with .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- if .Values.azureWorkloadIdentity.enabled }}
azure.workload.identity/use: "true"
{{- end }}
{{- end }}

{{- define "prtwatch.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}
