{{/* prtwatch.yaml: the values' `config`, with the files that the chart mounts. */}}
{{- define "prtwatch.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if not (dig "kafka" "brokers" nil $config) }}
{{- fail "config.kafka.brokers: is empty; name the brokers that have prtwatch's topics: --set 'config.kafka.brokers={kafka-1.example.com:9092}'" }}
{{- end }}
{{- range $cluster := list "kafka" "input" }}
{{- $secrets := get $.Values.secrets $cluster }}
{{- $dir := printf "/etc/prtwatch/secrets/%s" $cluster }}
{{- $sasl := dict }}
{{- $tls := dict }}
{{- if $secrets.password.existingSecret }}
{{- $_ := set $sasl "password_file" (printf "%s/password" $dir) }}
{{- end }}
{{- if $secrets.ca.existingSecret }}
{{- $_ := set $tls "ca_file" (printf "%s/ca.crt" $dir) }}
{{- $_ := set $tls "enabled" true }}
{{- end }}
{{- /* It is younger than the others: --reuse-values brings values without it. */}}
{{- if dig "tokenCa" "existingSecret" "" $secrets }}
{{- $_ := set $sasl "token_ca_file" (printf "%s/token-ca.crt" $dir) }}
{{- end }}
{{- if $secrets.certificate.existingSecret }}
{{- $_ := set $tls "cert_file" (printf "%s/tls.crt" $dir) }}
{{- $_ := set $tls "key_file" (printf "%s/tls.key" $dir) }}
{{- $_ := set $tls "enabled" true }}
{{- end }}
{{- $section := get $config $cluster | default dict }}
{{- if $sasl }}{{ $_ := set $section "sasl" (mergeOverwrite (get $section "sasl" | default dict) $sasl) }}{{ end }}
{{- if $tls }}{{ $_ := set $section "tls" (mergeOverwrite (get $section "tls" | default dict) $tls) }}{{ end }}
{{- if $section }}{{ $_ := set $config $cluster $section }}{{ end }}
{{- end }}
{{- if .Values.allowlist.files }}
{{- $files := dig "detection" "allowlist" nil $config | default list }}
{{- range $name, $_ := .Values.allowlist.files }}
{{- $files = append $files (printf "/etc/prtwatch/allowlist/%s" $name) }}
{{- end }}
{{- $_ := set $config "detection" (mergeOverwrite (get $config "detection" | default dict) (dict "allowlist" $files)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* The ports that egress must be open to: those of the brokers, and of who gives tokens. */}}
{{- define "prtwatch.ports" -}}
{{- $ports := list }}
{{- range $cluster := list "kafka" "input" }}
{{- range (dig $cluster "brokers" nil $.Values.config) | default list }}
{{- $ports = append $ports (regexReplaceAll "^.*:" . "" | int) }}
{{- end }}
{{- end }}
{{- range .Values.networkPolicy.extraPorts }}{{ $ports = append $ports (int .) }}{{ end }}
{{- range $ports | uniq }}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end }}

{{- define "prtwatch.tokenPorts" -}}
{{- $ports := list }}
{{- range $cluster := list "kafka" "input" }}
{{- if dig $cluster "sasl" "azure" false $.Values.config }}{{ $ports = append $ports 443 }}{{ end }}
{{- with dig $cluster "sasl" "token_url" "" $.Values.config }}
{{- $ports = append $ports (regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default 443 | int) }}
{{- end }}
{{- end }}
{{- range $ports | uniq }}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* Nine tenths of the memory limit: what is left is for what Go does not count. */}}
{{- define "prtwatch.goMemoryLimit" -}}
{{- with dig "limits" "memory" "" .Values.resources }}
{{- if not (regexMatch "^[0-9]+(Ki|Mi|Gi|k|M|G)?$" .) }}
{{- fail (printf "resources.limits.memory: %s is no whole number of Mi, Gi, M or G, from which GOMEMLIMIT is worked out; write 1536Mi for 1.5Gi, or set GOMEMLIMIT in extraEnv" .) }}
{{- end }}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- $bytes := mul (regexFind "^[0-9]+" .) (get $units (regexReplaceAll "^[0-9]+" . "")) }}
{{- printf "%dMiB" (div (div (mul $bytes 9) 10) 1048576) }}
{{- end }}
{{- end }}
