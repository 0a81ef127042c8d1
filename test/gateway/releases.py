"""Small stand-ins for releases of Mainsail and Fluidd: no code of theirs, only the shapes that a build leaves behind.

Two minifiers are known in the field: one writes all text in backticks, the other in double quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en">
    <head>
        <title>Stand-in</title>
        <link rel="icon" href="/img/icon.png" />
        <link rel="mask-icon" href="img/tab.svg" />
        <meta name="tile" content="/img/icons/tile.png" />
        <meta name="description" content="Control it" />
        <script type="module" crossorigin src="/assets/index-AbCdEf12.js"></script>
        <link rel="stylesheet" crossorigin href="/assets/index-Zz_yXw34.css">
        <link rel="help" href="//example.org/help">
        <link rel="manifest" href="/manifest.webmanifest"></head>
    <body><div id="app"></div></body>
</html>
"""

BACKTICKS = (
    'import{t as e}from"./helper-QwErTy56.js";'
    "let r=new R({base:`/`,mode:`history`,routes:[]});"
    "let s=()=>({hostname:h,port:Number(t),path:``,protocol:document.location.protocol===`https:`?`wss`:`ws`});"
    "let a=(t=`/`)==null?`/`:t,c=await(await fetch(`${a}config.json`)).json();console.debug(`Loaded config.json`);"
    "let f=`/css/themes/${n}.css`;"
    "let l=dark?`/img/dark.svg`:`/img/light.svg`,d={path:`/`,name:``},b=`/img/themes/${n}.png`,p=u.split(`/`);"
    "let z=`img/relative.svg`,y={path:``,webPort:80};"
)
BACKTICK_HELPER = "var e=function(e){return`/`+e},t={};let w=e=>new Worker(`/assets/worker-AsDfGh78.js`);"

QUOTES = (
    'let r=new R({mode:"history",base:"/",routes:[]});'
    'let s=()=>({hostname:h,port:Number(t),path:"",protocol:document.location.protocol==="https:"?"wss":"ws"});'
    'const c=await(await fetch("".concat("/","config.json"))).json();console.debug("Loaded config.json");'
    'const g=function(e){return"/"+e},l="/img/dark.svg",d="/img/light.svg",m="/css/themes/".concat(n,".css");'
    'let b="/img/themes/".concat(n,".png"),p=u.split("/"),q={path:"/",name:""};'
)

STYLES = '@font-face{src:url(/fonts/a.woff2)format("woff2"),url("/fonts/b.woff")}b{background:url(//example.org/x.png)}'

MAINSAIL: Mapping[str, str] = {
    "index.html": PAGE,
    "config.json": '{"defaultTheme": "mainsail", "instancesDB": "json", "hostname": "h", "instances": [{"port": 1}]}',
    "release_info.json": '{"project_name": "mainsail", "project_owner": "mainsail-crew", "version": "v2.99.0"}',
    "manifest.webmanifest": '{"start_url": "/", "scope": "/", "icons": [{"src": "/img/icon.png"}], "name": "Stand-in"}',
    "sw.js": "precache()",
    "assets/index-AbCdEf12.js": BACKTICKS,
    "assets/helper-QwErTy56.js": BACKTICK_HELPER,
    "assets/plain-PlAiN000.js": "export let nothing=1;" * 100,
    "assets/index-Zz_yXw34.css": STYLES,
    "assets/font-LmNoPq90.woff2": "font",
    "img/icon.png": "picture",
    "fonts/a.woff2": "font",
    "css/themes/dark.css": "b{background:url(/img/dark.svg)}",
}
MAINSAIL_IN_QUOTES = {**MAINSAIL, "assets/index-AbCdEf12.js": QUOTES, "assets/helper-QwErTy56.js": "export let none;"}

FLUIDD: Mapping[str, str] = {
    "index.html": PAGE.replace('"/', '"./').replace('".//', '"//'),
    "config.json": '{"blacklist": ["fluidd.xyz"], "endpoints": ["http://other"], "themePresets": [{"name": "A"}]}',
    "release_info.json": '{"project_name": "fluidd", "project_owner": "fluidd-core", "version": "v1.99.0"}',
    "manifest.webmanifest": '{"start_url": "./", "icons": [{"src": "img/icon.png"}]}',
    "sw.js": "precache()",
    "assets/index-AbCdEf12.js": "let k=G.KEY;if(k in localStorage)load(localStorage[k]);",
    "assets/actions-QwErTy56.js": "var G={KEY:`appInstances`,OTHER:`appInstancesOfOthers`};",
    "assets/index-Zz_yXw34.css": "b{background:url(./x-AbCdEf12.png)}",
    "img/icon.png": "picture",
}


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """Unpack a release."""
    for path, content in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return directory
