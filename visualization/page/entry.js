document.querySelector("main").textContent = document.querySelector("#xray-data").textContent;
