{{/* What every container of the chart has: configuration and secrets. */}}
{{- define "prtwatch.mounts" -}}
- {name: config, mountPath: /etc/prtwatch/config, readOnly: true}
{{- range $cluster := list "kafka" "input" }}
{{- if include "prtwatch.secretSources" (dict "secrets" (get $.Values.secrets $cluster)) }}
- {name: {{ $cluster }}-secrets, mountPath: /etc/prtwatch/secrets/{{ $cluster }}, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The same as volumes. `configMap` is where prtwatch.yaml is; whole folders are mounted, never a subPath, which would
     not be renewed. */}}
{{- define "prtwatch.volumes" -}}
{{- $root := .root }}
- name: config
  configMap: {name: {{ .configMap }}}
{{- range $cluster := list "kafka" "input" }}
{{- with include "prtwatch.secretSources" (dict "secrets" (get $root.Values.secrets $cluster)) }}
- name: {{ $cluster }}-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "prtwatch.secretSources" -}}
{{- with .secrets.password }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .key }}, path: password}]}
{{- end }}{{ end }}
{{- with .secrets.ca }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}{{ end }}
{{- with .secrets.tokenCa }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .key }}, path: token-ca.crt}]}
{{- end }}{{ end }}
{{- with .secrets.certificate }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .cert }}, path: tls.crt}, {key: {{ .key }}, path: tls.key}]}
{{- end }}{{ end }}
{{- end }}

{{/* Where the pods run and as whom. */}}
{{- define "prtwatch.placement" -}}
automountServiceAccountToken: {{ .Values.automountServiceAccountToken }}
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pod of `prtwatch topics`: of the Job that makes them, and of `helm test`, which only looks. */}}
{{- define "prtwatch.topicsPod" -}}
{{- $root := .root -}}
serviceAccountName: {{ .serviceAccount }}
restartPolicy: Never
{{ include "prtwatch.placement" $root }}
{{- /* Which nodes: as the others. How they stay away from each other is not for this one: it would find no node left. */}}
{{- with pick $root.Values.affinity "nodeAffinity" }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: topics
    image: {{ include "prtwatch.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
    {{- with $root.Values.extraEnv }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $root.Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 128Mi}
    securityContext:
      {{- toYaml $root.Values.securityContext | nindent 6 }}
    volumeMounts:
      {{- include "prtwatch.mounts" $root | nindent 6 }}
volumes:
  {{- include "prtwatch.volumes" . | trim | nindent 2 }}
{{- end }}
