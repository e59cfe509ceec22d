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
app.kubernetes.io/name: {{ include "prtwatch.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The pods that watch. */}}
{{- define "prtwatch.selector" -}}
{{ include "prtwatch.commonSelector" . }}
app.kubernetes.io/component: watch
{{- end }}

{{/* The labels of an object: the chart's own, with its `component` where it has one, and the user's. */}}
{{- define "prtwatch.labels" -}}
{{- $own := include "prtwatch.commonSelector" .root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- with .component }}{{ $_ := set $own "app.kubernetes.io/component" . }}{{ end }}
{{- include "prtwatch.withUsersLabels" (dict "root" .root "own" $own "key" .key "more" .more) }}
{{- end }}

{{/* The labels of the pods of a `component`. */}}
{{- define "prtwatch.podLabels" -}}
{{- $own := include "prtwatch.commonSelector" .root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" .component }}
{{- if .root.Values.azureWorkloadIdentity.enabled }}{{ $_ := set $own "azure.workload.identity/use" "true" }}{{ end }}
{{- include "prtwatch.withUsersLabels" (dict "root" .root "own" $own "key" "podLabels" "more" .root.Values.podLabels) }}
{{- end }}

{{/* The chart's own labels, commonLabels, and those that the values have at `key`, which win over commonLabels. What the chart selects by is
     its own: a second one of that name would be refused by Kubernetes, or select other pods. */}}
{{- define "prtwatch.withUsersLabels" -}}
{{- $common := .root.Values.commonLabels | default dict }}
{{- $more := .more | default dict }}
{{- range $name, $_ := .own }}
{{- if hasKey $common $name }}{{ fail (printf "commonLabels: has %s, which the chart sets; take it out" $name) }}{{ end }}
{{- if hasKey $more $name }}{{ fail (printf "%s: has %s, which the chart sets; take it out" $.key $name) }}{{ end }}
{{- end }}
{{- toYaml (merge dict .own $more $common) }}
{{- end }}

{{- define "prtwatch.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}
