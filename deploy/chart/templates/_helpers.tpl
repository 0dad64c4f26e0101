{{/* Labels of everything that belongs to the router. */}}
{{- define "bbr.labels" -}}
app: {{ .Values.bbr.name }}
app.kubernetes.io/name: bbr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels by which the router's pods are found; the Go routers' chart has the first alone. */}}
{{- define "bbr.selector" -}}
app: {{ .Values.bbr.name }}
{{- end }}

{{/* registry/repository:tag, or the older hub/name:tag. */}}
{{- define "bbr.image" -}}
{{- $image := .Values.bbr.image -}}
{{- $where := $image.hub | default $image.registry -}}
{{- $what := $image.name | default $image.repository -}}
{{- if $where }}{{ $where }}/{{ end }}{{ $what }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* "true" if the ext_proc port serves TLS. */}}
{{- define "bbr.secure" -}}
{{- $secure := toString .Values.bbr.secureServing -}}
{{- if eq $secure "auto" -}}
{{- not (has .Values.provider.name (list "envoy-gateway" "kgateway" "agentgateway")) -}}
{{- else -}}
{{- $secure -}}
{{- end -}}
{{- end }}

{{- define "bbr.serviceAccount" -}}
{{ printf "%s-%s" .Values.bbr.name .Release.Name | trunc 56 | trimSuffix "-" }}
{{- end }}

{{/* The name that a gateway's cluster of Service .name has in Istio, and its certificate. */}}
{{- define "bbr.host" -}}
{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* All entries of models, whole, as a YAML list under the key models; they must not share a name. */}}
{{- define "bbr.models" -}}
{{- $models := list -}}
{{- $seen := dict -}}
{{- range .Values.models -}}
{{- $model := include "bbr.model" (dict "model" .) | fromYaml -}}
{{- range $what := list (printf "name %s" $model.name) (printf "pool %s" $model.pool.name) (printf "endpoint picker %s" $model.epp.name) (printf "route %s" $model.route.name) (printf "baseModel %s" $model.baseModel) -}}
{{- if hasKey $seen $what -}}
{{- fail (printf "models: two entries have the %s; give one of them another, since each model needs its own" $what) -}}
{{- end -}}
{{- $_ := set $seen $what true -}}
{{- end -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- toYaml (dict "models" $models) -}}
{{- end }}

{{/* Labels of what belongs to one model: .model, .root. */}}
{{- define "bbr.modelLabels" -}}
app.kubernetes.io/name: {{ .model.name }}
app.kubernetes.io/part-of: {{ .root.Values.bbr.name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The Gateway, as policies name it. */}}
{{- define "bbr.gateway" -}}
group: gateway.networking.k8s.io
kind: Gateway
name: {{ .Values.inferenceGateway.name }}
{{- end }}

{{/* A number of bytes: half of a quantity such as 1Gi, 512Mi or a plain number. */}}
{{- define "bbr.halfBytes" -}}
{{- $text := toString . -}}
{{- $factor := 1 -}}
{{- if hasSuffix "Gi" $text }}{{ $factor = 1073741824 }}{{ else if hasSuffix "Mi" $text }}{{ $factor = 1048576 }}{{ else if hasSuffix "Ki" $text }}{{ $factor = 1024 }}{{ else if hasSuffix "G" $text }}{{ $factor = 1000000000 }}{{ else if hasSuffix "M" $text }}{{ $factor = 1000000 }}{{ end -}}
{{- div (mulf (float64 (regexFind "^[0-9.]+" $text)) $factor | int64) 2 -}}
{{- end }}

{{/* A model with all its names, as YAML: what values leave out follows from its base model. */}}
{{- define "bbr.model" -}}
{{- $given := .model -}}
{{- $base := required "models: each entry needs a baseModel" $given.baseModel -}}
{{- /* What follows the last slash, as a DNS label. */ -}}
{{- $label := regexReplaceAll "[^a-z0-9]+" ($base | lower | splitList "/" | last) "-" | trimAll "-" -}}
{{- $name := $given.name | default (regexReplaceAll "^([0-9]|$)" $label "m-${1}" | trunc 40 | trimSuffix "-") -}}
{{- $defaults := dict
      "name" $name
      "baseModel" $base
      "adapters" list
      "pool" (dict "create" true "name" (printf "%s-pool" $name) "targetPort" 8000 "healthPath" "/health" "timeoutSeconds" 300)
      "epp" (dict "create" true "name" (printf "%s-epp" $name) "replicas" 1)
      "route" (dict "create" true "name" (printf "%s-model-route" $name) "path" "/" "header" "base") -}}
{{- toYaml (mergeOverwrite $defaults (deepCopy $given)) -}}
{{- end }}

{{/* What the catch-all answers, in OpenAI's shape. */}}
{{- define "bbr.noModel" -}}
{"error":{"message":"The request names no model that is served here.","type":"invalid_request_error","param":"model","code":"model_not_found"}}
{{- end }}
