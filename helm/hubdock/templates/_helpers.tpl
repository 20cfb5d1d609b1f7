{{- define "hubdock.name" -}}
{{- $name := .Values.fullnameOverride | default (contains "hubdock" .Release.Name | ternary .Release.Name (printf "%s-hubdock" .Release.Name)) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "hubdock.builds" -}}
{{- .Values.builds.namespace | default (printf "%s-builds" (.Release.Namespace | trunc 56)) -}}
{{- end -}}

{{- define "hubdock.servers" -}}
{{- .Values.servers.namespace | default .Release.Namespace -}}
{{- end -}}

{{- define "hubdock.address" -}}
http://{{ include "hubdock.name" . }}.{{ .Release.Namespace }}:9000
{{- end -}}

{{- define "hubdock.prefix" -}}
{{- printf "/%s/" (trimAll "/" (.Values.hub.enabled | ternary "/" .Values.hub.baseUrl)) | replace "//" "/" -}}
{{- end -}}

{{- define "hubdock.hub" -}}
{{- if .Values.hub.enabled -}}
http://{{ include "hubdock.name" . }}-hub.{{ .Release.Namespace }}:8081
{{- else -}}
{{- .Values.hub.url | trimSuffix "/" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which a component's pods are selected: (list $ "service") */}}
{{- define "hubdock.selector" -}}
app.kubernetes.io/name: hubdock
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "hubdock.labels" -}}
{{ include "hubdock.selector" . }}
{{- $root := index . 0 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end -}}

{{/* Secret and key of the service's token at the hub */}}
{{- define "hubdock.token" -}}
{{- $token := .Values.service.token -}}
name: {{ $token.secret | default (include "hubdock.name" .) }}
key: {{ if $token.secret }}{{ $token.key | default "token" }}{{ else }}service-token{{ end }}
{{- end -}}

{{/* What every pod of the chart is: nobody in particular, with nothing to write but its volumes */}}
{{- define "hubdock.pod-security" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hubdock.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "hubdock.pull-secrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "hubdock.image" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
{{- index $root.Values.image $name | required (printf "image.%s names no image: make it from the project's Dockerfile (docker build --target %s), push it, and say its name" $name $name) -}}
{{- end -}}

{{- define "hubdock.volume" -}}
accessModes: [{{ .mode }}]
resources: {requests: {storage: {{ .storage.size }}}}
{{- with .storage.class }}
storageClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Network policy peers and ports from a list of {cidr, ports} */}}
{{- define "hubdock.blocks" -}}
{{- range . }}
- to: [{ipBlock: {cidr: {{ .cidr | quote }}}}]
  {{- with .ports }}
  ports: [{{ range $n, $port := . }}{{ if $n }}, {{ end }}{port: {{ int $port }}, protocol: TCP}{{ end }}]
  {{- end }}
{{- end }}
{{- end -}}

{{- define "hubdock.dns" -}}
- to:
    - {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}
    {{- range .Values.networkPolicies.dns }}
    - {ipBlock: {cidr: {{ . | quote }}}}
    {{- end }}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{- define "hubdock.internet" -}}
{{- with .Values.networkPolicies.internet }}
{{- $except := .except }}
{{- if .cidrs }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}{{ if and $except (eq . "0.0.0.0/0") }}, except: {{ toJson $except }}{{ end }}}
    {{- end }}
  ports: [{{ range $n, $port := .ports }}{{ if $n }}, {{ end }}{port: {{ int $port }}, protocol: TCP}{{ end }}]
{{- end }}
{{- end }}
{{- end -}}

{{/* The settings that the chart knows by itself, and the admin's: one document */}}
{{- define "hubdock.config" -}}
{{- $given := deepCopy .Values.config -}}
{{- $registry := .Values.registry -}}
{{- range $name := list "state_dir" "db_url" "backend" "registry" "registry_config" "insecure_registries" "volume_prefix" "data_mode" "max_parallel_builds" "extra_ca_certificates" -}}
{{- if hasKey ($given.HubDock | default dict) $name -}}
{{- fail (printf "config.HubDock.%s is set by the chart: use the values service, registry, builds and data" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $given.HubDock | default dict -}}
{{- if hasPrefix "kube_" $name -}}{{- fail (printf "config.HubDock.%s is set by the chart: use the values registry, builds and data" $name) -}}{{- end -}}
{{- end -}}
{{- $host := $registry.host | required "registry.host names no registry: host[:port][/path], as nodes and builds reach it" -}}
{{- $own := dict
  "state_dir" "/srv/hubdock/state" "backend" "kubernetes" "registry" $host
  "insecure_registries" ($registry.insecure | ternary (list (first (splitList "/" $host))) list)
  "registry_config" (empty $registry.secret | ternary "" "/etc/hubdock/registry/config.json") "kube_registry_secret" $registry.secret
  "kube_namespace" (include "hubdock.builds" .) "kube_buildkit_image" .Values.builds.image "max_parallel_builds" (int .Values.builds.parallel)
  "kube_cache_volumes" (int .Values.builds.cache.volumes) "kube_cache_size" .Values.builds.cache.size "kube_cache_class" .Values.builds.cache.class
  "kube_build_resources" .Values.builds.resources
  "kube_build_pod" (merge (dict "serviceAccountName" (printf "%s-build" (include "hubdock.name" .))) .Values.builds.pod)
  "kube_data_namespace" (include "hubdock.servers" .) "kube_data_size" .Values.data.size "kube_data_class" .Values.data.class
  "volume_prefix" (include "hubdock.name" .) "data_mode" .Values.data.mode
  "extra_ca_certificates" (empty .Values.service.certificates | ternary "" "/etc/hubdock/certificates/ca.crt")
-}}
{{- toPrettyJson (mergeOverwrite (deepCopy $given) (dict "HubDock" (merge $own ($given.HubDock | default dict)))) -}}
{{- end -}}

{{- define "hubdock.registry-peers" -}}
{{- if .Values.registry.enabled }}
- to:
    - podSelector:
        matchLabels: {{- include "hubdock.selector" (list . "registry") | nindent 10 }}
      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .Release.Namespace }}}}
  ports: [{port: 5000, protocol: TCP}]
{{- end }}
{{- include "hubdock.blocks" .Values.networkPolicies.registry }}
{{- end -}}
